// A certified OpenID Connect provider (npm oidc-provider) on this machine: node provider.js PORT REDIRECT GROUPS…
// Everybody who signs in as NAME gets the claims preferred_username NAME and groups GROUPS. A line on stdout says that it listens.
const { Provider } = require("oidc-provider");

const [port, redirect, ...groups] = process.argv.slice(2);
const provider = new Provider(`http://localhost:${port}`, {
  clients: [{ client_id: "visavis", client_secret: "a secret of some length", redirect_uris: [redirect], token_endpoint_auth_method: "client_secret_basic" }],
  claims: { openid: ["sub"], profile: ["preferred_username", "groups"], email: ["email"] },
  findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: `subject-of-${id}`, preferred_username: id, groups }) }),
  pkce: { required: () => true },
});
provider.listen(Number(port), "localhost", () => console.log("listening"));
