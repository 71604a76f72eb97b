/** The order as understood so far. The dialogue sends it as JSON; what this page does not know is left out. */

const line = (tag, kind, text) => Object.assign(document.createElement(tag), { className: kind, textContent: text });

function order({ title, lines = [], total, number }, s) {
  const list = document.createElement("dl");
  for (const { text, price } of lines) {
    const row = document.createElement("div");
    row.append(line("dt", "", text), line("dd", "", price ?? ""));
    list.append(row);
  }
  const parts = [line("h2", "", title ?? ""), list];
  if (number) parts.push(line("p", "state", `${s.number} ${number}`));
  if (total) parts.push(line("p", "total", total));
  return lines.length ? parts : [];
}

/** @param {HTMLElement} home @param {string} json {type: order, title, lines: [{text, price}], total, number} or {type: staff | none} */
export function renderCard(home, json, s) {
  let card;
  try {
    card = JSON.parse(json);
  } catch {
    return;
  }
  const parts = card.type === "order" ? order(card, s) : card.type === "staff" ? [line("h2", "", s.staffComing)] : [];
  home.replaceChildren(...parts);
  home.hidden = !parts.length;
}
