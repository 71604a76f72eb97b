/** The order as understood so far. The dialogue sends it as JSON; what it does not know is left out. */

const line = (tag, kind, text) => Object.assign(document.createElement(tag), { className: kind, textContent: text });

/** @param {HTMLElement} home @param {string} json {title, rows: [[label, value]], total?, state?} */
export function renderCard(home, json) {
  let card;
  try {
    card = JSON.parse(json);
  } catch {
    return;
  }
  const rows = (card.rows ?? []).map(([label, value]) => {
    const row = document.createElement("div");
    row.append(line("dt", "", label), line("dd", "", value));
    return row;
  });
  const list = document.createElement("dl");
  list.append(...rows);
  const parts = [line("h2", "", card.title ?? ""), list];
  if (card.total) parts.push(line("p", "total", card.total));
  if (card.state) parts.push(line("p", "state", card.state));
  home.replaceChildren(...parts);
  home.hidden = rows.length === 0 && !card.state;
}
