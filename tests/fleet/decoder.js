// Reads base64 payloads, a line each, and writes what Eclipse Tahu's decoder makes of them, a line of JSON each.
const { decodePayload } = require("sparkplug-payload").get("spBv1.0");
const plain = (_, value) => (value && typeof value === "object" && typeof value.toNumber === "function" ? value.toNumber() : value);
require("readline")
  .createInterface({ input: process.stdin })
  .on("line", (line) => {
    try {
      console.log(JSON.stringify(decodePayload(Buffer.from(line, "base64")), plain));
    } catch (error) {
      console.log(JSON.stringify({ error: String(error) }));
    }
  });
