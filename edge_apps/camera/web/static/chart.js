// The latency chart, on a canvas: half of all frames by stage, stacked; nine in ten end to end, as a line.

const SPANS = [60, 120, 300]; // seconds: the shortest that holds the history
const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** Draws the history, and says in words what it shows. */
export function drawChart(canvas, history, stages, withLine, now, names) {
  const { context, width, height } = prepared(canvas);
  if (!width) return "";
  const area = { left: 44, right: width - 6, top: 10, bottom: height - 24 };
  const span = SPANS.find((seconds) => !history.length || now - history[0].at < seconds) ?? SPANS.at(-1);
  const sums = history.map((point) => stages.reduce((sum, stage) => sum + (point.p50[stage] ?? 0), 0));
  const lines = withLine ? history.map((point) => point.p90.age ?? 0) : [];
  const top = niceTop(Math.max(0, ...sums, ...lines));
  const x = (at) => area.right - (Math.min(span, now - at) / span) * (area.right - area.left);
  const y = (value) => area.bottom - (value / top) * (area.bottom - area.top);
  grid(context, area, top, y, span);
  for (const run of runs(history)) {
    stack(context, run, stages, x, y);
    if (withLine) line(context, run.map((point) => [x(point.at), y(point.p90.age)]));
  }
  const last = history.at(-1);
  if (!last?.frames) return "Latency by stage over the last minutes: no frames just now.";
  const said = stages.map((stage) => `${names[stage]} ${last.p50[stage].toFixed(1)}`).join(", ");
  return `Latency by stage over the last minutes. Just now, milliseconds: ${said}; nine in ten frames took less than ${last.p90.age.toFixed(1)} end to end.`;
}

function prepared(canvas) {
  const { clientWidth: width, clientHeight: height } = canvas, scale = devicePixelRatio || 1;
  if (canvas.width !== Math.round(width * scale) || canvas.height !== Math.round(height * scale)) {
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
  }
  const context = canvas.getContext("2d");
  context.setTransform(scale, 0, 0, scale, 0, 0);
  context.clearRect(0, 0, width, height);
  return { context, width, height };
}

/** 1, 2 or 5 times a power of ten, four of which hold the value. */
function step(value) {
  const power = 10 ** Math.floor(Math.log10(value / 4));
  return [1, 2, 5, 10].map((factor) => factor * power).find((size) => size * 4 >= value);
}
function niceTop(value) { return value > 0 ? Math.ceil((value * 1.02) / step(value)) * step(value) : 1; }

function grid(context, area, top, y, span) {
  context.font = `12px ${getComputedStyle(document.body).fontFamily}`;
  context.fillStyle = style("--soft");
  context.strokeStyle = style("--line");
  context.lineWidth = 1;
  const size = step(top) ?? top;
  context.textAlign = "right";
  context.textBaseline = "middle";
  for (let value = 0; value <= top * 1.001; value += size) {
    const row = Math.round(y(value)) + 0.5;
    context.beginPath();
    context.moveTo(area.left, row);
    context.lineTo(area.right, row);
    context.stroke();
    context.fillText(`${+value.toPrecision(6)}${value ? "" : " ms"}`, area.left - 6, row);
  }
  context.textBaseline = "top";
  const parts = span === 300 ? 5 : 4, coarse = area.right - area.left < 320;
  for (let part = 0; part <= parts; part++) {
    if (coarse && part % parts) continue;
    context.textAlign = part === parts ? "left" : part ? "center" : "right";
    const seconds = (part * span) / parts;
    const text = !part ? "now" : seconds % 60 ? `−${seconds} s` : `−${seconds / 60} min`;
    context.fillText(text, area.right - (part / parts) * (area.right - area.left), area.bottom + 8);
  }
}

/** Stretches of the history without a gap, where no frame came. */
function runs(history) {
  const found = [];
  let open = null;
  for (const point of history) {
    if (!point.frames) open = null;
    else if (open) open.push(point);
    else found.push((open = [point]));
  }
  return found;
}

function stack(context, run, stages, x, y) {
  const floor = run.map(() => 0);
  for (const stage of stages) {
    const ceiling = run.map((point, index) => floor[index] + point.p50[stage]);
    const edge = (values) => widened(run.map((point, index) => [x(point.at), y(values[index])]));
    context.fillStyle = style(`--${stage}`);
    context.beginPath();
    [...edge(ceiling), ...edge(floor).reverse()].forEach(([px, py], index) => index ? context.lineTo(px, py) : context.moveTo(px, py));
    context.fill();
    floor.splice(0, floor.length, ...ceiling);
  }
}

/** A single point is five seconds wide, or it could not be seen. */
function widened(points) { return points.length > 1 ? points : [[points[0][0] - 6, points[0][1]], points[0]]; }

function line(context, points) {
  context.strokeStyle = style("--ink");
  context.lineWidth = 1.75;
  context.lineJoin = "round";
  context.beginPath();
  widened(points).forEach(([px, py], index) => index ? context.lineTo(px, py) : context.moveTo(px, py));
  context.stroke();
}

/** A small line of the last minutes under a figure; nothing for fewer than two values. */
export function sparkline(parent, values, name) {
  const space = "http://www.w3.org/2000/svg";
  let drawing = parent.querySelector("svg");
  if (values.length < 2) { drawing?.remove(); return; }
  if (!drawing) {
    drawing = document.createElementNS(space, "svg");
    drawing.classList.add("spark");
    drawing.setAttribute("viewBox", "0 0 100 20");
    drawing.setAttribute("preserveAspectRatio", "none");
    drawing.setAttribute("role", "img");
    drawing.append(document.createElementNS(space, "polyline"));
    parent.append(drawing);
  }
  const low = Math.min(...values), high = Math.max(...values);
  const range = Math.max(high - low, Math.abs(high) * 0.02, 1e-9), middle = (low + high) / 2;
  drawing.setAttribute("aria-label", `${name} over the last minutes: ${low.toFixed(1)} to ${high.toFixed(1)}`);
  drawing.firstChild.setAttribute("points", values.map((value, index) =>
    `${(100 * index) / (values.length - 1)},${10 - (18 * (value - middle)) / range}`).join(" "));
}
