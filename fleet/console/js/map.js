// Sites on a map without tiles: outlines of land, a mark for each site, sites that overlap as one mark that opens when it is chosen.
import { useEffect, useMemo, useRef, useState } from "../vendor/hooks.js";
import { BORDERS, LAND } from "../vendor/world.js";
import { api, html, query, Trouble, useLive, useLoad } from "./lib.js";

const NEAR = 34; // pixels between marks that are drawn as one
const LEAST = 0.5; // degrees: closer than this outlines mean nothing
const MOST = 360; // degrees: a phone held upright shows the whole world only so
const RADIUS = 15;

const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

/** The part of the world that shows all sites, with some room around: centre and height in degrees. */
function around(sites, ratio) {
  if (!sites.length) return { x: 10, y: -20, height: 150 };
  const xs = sites.map((site) => site.longitude);
  const ys = sites.map((site) => -site.latitude);
  const [west, east, north, south] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
  const y = (north + south) / 2;
  const height = Math.max(4, (south - north) * 1.4, ((east - west) * 1.4 * Math.cos((y * Math.PI) / 180)) / ratio);
  return { x: (west + east) / 2, y, height: Math.min(MOST, height) };
}

/** From degrees to pixels: plate carrée, true to scale at the middle of the view. */
function projection(view, width, height) {
  const scale = height / view.height;
  const across = scale * Math.cos((clamp(view.y, -75, 75) * Math.PI) / 180);
  return {
    scale,
    across,
    at: (site) => [(site.longitude - view.x) * across + width / 2, (-site.latitude - view.y) * scale + height / 2],
    outline: `matrix(${across / 10} 0 0 ${scale / 10} ${width / 2 - view.x * across} ${height / 2 - view.y * scale})`,
  };
}

function clusters(sites, at) {
  const found = [];
  for (const site of sites) {
    const [x, y] = at(site);
    const near = found.find((one) => Math.hypot(one.x - x, one.y - y) < NEAR);
    if (near) near.sites.push(site);
    else found.push({ x, y, sites: [site] });
  }
  return found;
}

const sum = (sites, name) => sites.reduce((all, site) => all + site[name], 0);

/** What a mark says, and how bad it is: words, never colour alone. */
function reading(sites) {
  const [boxes, bad, warn, away] = ["boxes", "bad", "warn", "away"].map((name) => sum(sites, name));
  const parts = [`${boxes} ${boxes === 1 ? "box" : "boxes"}`];
  if (bad) parts.push(`${bad} to act on`);
  if (warn) parts.push(`${warn} to look at`);
  if (away) parts.push(`${away} away`);
  const kind = bad ? "bad" : away || warn ? "warn" : "ok";
  const name = sites.length === 1 ? sites[0].site : `${sites.length} sites`;
  return { kind, boxes, text: `${name}: ${parts.join(", ")}` };
}

function Mark({ one, chosen, onChoose }) {
  const { kind, boxes, text } = reading(one.sites);
  const choose = (event) => {
    if (event.type === "keydown" && event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    onChoose(one.sites);
  };
  // What is drawn on the mark stands beside the button, whose own words say all of it.
  return html`<g class="place ${kind} ${chosen ? "chosen" : ""}" transform=${`translate(${one.x} ${one.y})`}>
    <g role="button" tabindex="0" aria-label=${text} aria-pressed=${chosen} onClick=${choose} onKeyDown=${choose}>
      <circle r=${RADIUS + 2} class="halo" />
      <circle r=${RADIUS} />
    </g>
    <g class="words" aria-hidden="true">
      <text y="5">${boxes > 999 ? `${Math.floor(boxes / 1000)}k` : boxes}${kind === "bad" ? "!" : ""}</text>
      ${one.sites.length === 1 && html`<text class="name" y=${RADIUS + 16}>${one.sites[0].site}</text>`}
    </g>
  </g>`;
}

function useSize() {
  const place = useRef();
  const [size, set] = useState({ width: 800, height: 420 });
  useEffect(() => {
    const box = place.current; // the reference is gone before the observer is
    const look = () => set({ width: Math.max(240, box.clientWidth), height: Math.max(240, box.clientHeight) });
    look();
    const observer = new ResizeObserver(look);
    observer.observe(box);
    return () => observer.disconnect();
  }, []);
  return [place, size];
}

/** The sites that match the filters; choosing one sets the filter. */
export function SiteMap({ wanted, onChange }) {
  const filters = { ...wanted, site: "" };
  const [found, trouble, again] = useLoad(() => api("GET", `/sites${query(filters)}`), [JSON.stringify(filters)]);
  useLive(() => true, again, [again]);
  const [place, { width, height }] = useSize();
  const sites = found?.sites || [];
  const whole = useMemo(() => around(sites, width / height), [sites.map((site) => `${site.site} ${site.latitude} ${site.longitude}`).join(), width, height]);
  const [moved, setMoved] = useState(null);
  const drag = useRef(null);
  const view = moved || whole;
  const { scale, across, at, outline } = projection(view, width, height);
  const marks = clusters(sites, at).filter((one) => one.x > -50 && one.y > -50 && one.x < width + 50 && one.y < height + 50);

  const zoom = (factor, x = view.x, y = view.y) => setMoved({ x, y, height: clamp(view.height * factor, LEAST, MOST) });
  const pan = (dx, dy) => setMoved({ ...view, x: clamp(view.x - dx / across, -180, 180), y: clamp(view.y - dy / scale, -85, 85) });
  const choose = (some) => {
    const close = view.height <= LEAST * 2;
    if (some.length > 1 && !close) {
      const part = around(some, width / height);
      setMoved({ ...part, height: clamp(Math.min(part.height, view.height / 2), LEAST, MOST) });
      return;
    }
    const one = some[0];
    if (one.device) onChange({ ...wanted, q: one.device, site: "" });
    else onChange({ ...wanted, site: wanted.site === one.site ? "" : one.site });
  };
  const down = (event) => {
    drag.current = { x: event.clientX, y: event.clientY };
  };
  const move = (event) => {
    if (!drag.current || event.buttons !== 1) return;
    const [dx, dy] = [event.clientX - drag.current.x, event.clientY - drag.current.y];
    if (!drag.current.moving && Math.hypot(dx, dy) < 4) return; // a click
    drag.current = { x: event.clientX, y: event.clientY, moving: true };
    pan(dx, dy);
  };
  return html`<section class="card map" aria-label="Map of sites">
    <${Trouble} text=${trouble} />
    <div class="row between">
      <p class="small soft">${found ? `${sites.length} ${sites.length === 1 ? "site" : "sites"} with a place${found.unplaced ? `; ${found.unplaced} matching boxes tell none` : ""}` : ""}</p>
      <div class="row" role="group" aria-label="Part of the map">
        <button onClick=${() => zoom(0.5)}>Closer</button><button onClick=${() => zoom(2)}>Wider</button>
        <button onClick=${() => pan(width / 4, 0)}>West</button><button onClick=${() => pan(-width / 4, 0)}>East</button>
        <button onClick=${() => pan(0, height / 4)}>North</button><button onClick=${() => pan(0, -height / 4)}>South</button>
        <button onClick=${() => setMoved(null)}>All sites</button>
      </div>
    </div>
    <div class="world" ref=${place}>
      <svg width=${width} height=${height} viewBox=${`0 0 ${width} ${height}`} role="group" aria-label="Sites" onPointerDown=${down} onPointerMove=${move} onPointerUp=${() => (drag.current = null)} onPointerLeave=${() => (drag.current = null)}>
        <g transform=${outline} aria-hidden="true"><path class="land" d=${LAND} /><path class="borders" d=${BORDERS} /></g>
        ${marks.map((one) => html`<${Mark} key=${one.sites.map((site) => site.site + site.device).join()} one=${one} onChoose=${choose}
          chosen=${one.sites.length === 1 && one.sites[0].site === (wanted.site || wanted.q) && Boolean(wanted.site || wanted.q)} />`)}
      </svg>
    </div>
    ${found && sites.length === 0 && html`<p class="soft">No matching box tells its place. A box does with <code>attributes = ${"{"} position = "52.52, 13.40" ${"}"}</code> in its kiosk.toml.</p>`}
  </section>`;
}
