// Writes fleet/console/vendor/world.js, the outlines of land and countries for the console's map:
//   npm install --no-save world-atlas@2.0.2 topojson-client@3.1.0 && node scripts/outline.js > fleet/console/vendor/world.js
// Paths are in tenths of degrees, x to the east, y to the south; Antarctica is left out.
const { feature, mesh } = require("topojson-client");
const world = require("world-atlas/countries-110m.json");

const text = (ring, close) => {
  let last = null;
  let turns = 0; // around the world: a ring that crosses 180° goes on beyond it, instead of back across the whole map
  const steps = [];
  for (const [longitude, latitude] of ring) {
    const point = [Math.round(longitude * 10) + turns * 3600, Math.round(-latitude * 10)];
    if (last && Math.abs(point[0] - last[0]) > 1800) {
      const step = point[0] > last[0] ? -1 : 1;
      turns += step;
      point[0] += step * 3600;
    }
    if (last && point[0] === last[0] && point[1] === last[1]) continue;
    steps.push(last ? `${point[0] - last[0]} ${point[1] - last[1]}` : `M${point[0]} ${point[1]}l`);
    last = point;
  }
  return steps.length > 2 ? steps[0] + steps.slice(1).join(" ") + (close ? "z" : "") : "";
};
const ANTARCTICA = "010";
const countries = { ...world.objects.countries, geometries: world.objects.countries.geometries.filter((one) => one.id !== ANTARCTICA) };
const land = feature(world, { type: "GeometryCollection", geometries: countries.geometries }).features.flatMap(({ geometry }) =>
  (geometry.type === "Polygon" ? [geometry.coordinates] : geometry.coordinates).flatMap((polygon) => polygon.map((ring) => text(ring, true))),
);
const borders = mesh(world, countries, (a, b) => a !== b).coordinates.map((line) => text(line, false));
process.stdout.write("// Made by scripts/outline.js from world-atlas 2.0.2 (ISC), Natural Earth 1:110m (public domain).\n");
process.stdout.write(`export const LAND = ${JSON.stringify(land.join(""))};\nexport const BORDERS = ${JSON.stringify(borders.join(""))};\n`);
