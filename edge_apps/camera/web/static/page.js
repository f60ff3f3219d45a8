// The live page. Two connections while it is seen, none while it is hidden: the frames with their labels, and
// server-sent events with the whole state, as /api/state, once a second.

import { drawChart, sparkline } from "/chart.js";
import { frames } from "/frames.js";

const SILENT_AFTER = 4000; // ms without a word from the server: the connection is gone, whatever the browser believes
const RETRY = [1000, 2000, 4000, 8000, 15000];
const LATE_AFTER = 2000; // ms without the image of a newer frame: labels are shown without it
const WORK = ["decode", "preprocess", "infer", "postprocess"];
const ROWS = { age: "end-to-end", ...Object.fromEntries(WORK.map((stage) => [stage, stage])), capture: "waiting" };

const at = (id) => document.getElementById(id);
const left = new Set(["capture"]); // stages that are left out of the chart: waiting, until the viewer asks for it
let events = null, heard = 0, tries = 0, later = 0, refusal = "", state = null, spoken = "";
let video = null, shown = null, lateSince = 0; // the stream of frames; the frame that is seen; since when there is a newer one

// Small helpers: text always goes in as text, since labels and file names are anybody's.

function make(tag, properties = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
}
function put(node, text) { if (node.textContent !== text) node.textContent = text; }
const number = (value, digits = 0) => value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
const ms = (value) => number(value, value < 10 ? 2 : value < 100 ? 1 : 0);

/** The time of the day, under its date where that is not today's. */
function clock(seconds) {
  const then = new Date(seconds * 1000), time = then.toLocaleTimeString([], { hourCycle: "h23" });
  return then.toDateString() === new Date().toDateString() ? time : `${then.toLocaleDateString([], { dateStyle: "medium" })}\n${time}`;
}

function duration(seconds) {
  const parts = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const first = parts.findIndex(([unit]) => seconds >= unit);
  if (first < 0) return "0 s";
  let rest = Math.floor(seconds);
  return parts.slice(first, first + 2).map(([unit, name]) => {
    const count = Math.floor(rest / unit);
    rest -= count * unit;
    return `${count} ${name}`;
  }).join(" ");
}

// Connection.

function connect() {
  clearTimeout(later);
  events?.close();
  events = new EventSource("/events");
  heard = Date.now();
  events.onopen = () => { tries = 0; refusal = ""; heard = Date.now(); showVideo(); };
  events.addEventListener("state", (message) => { heard = Date.now(); state = JSON.parse(message.data); showState(); showStatus(); });
  events.onerror = reconnect;
}

function reconnect() {
  events?.close();
  events = null;
  clearTimeout(later);
  later = setTimeout(connect, RETRY[Math.min(tries++, RETRY.length - 1)]);
  learnWhy().then(showStatus);
}

/** Events that are refused do not say why; who asks for their head alone is told. */
async function learnWhy() {
  try {
    const { status } = await fetch("/events", { method: "HEAD", signal: AbortSignal.timeout(SILENT_AFTER) });
    if (status === 401) location.reload(); // the camera was started again and has another token: its door asks for it
    refusal = status === 503 ? "Too many viewers, trying again…" : "";
  } catch {
    refusal = "";
  }
}

function disconnect() {
  clearTimeout(later);
  events?.close();
  events = null;
  video?.abort();
  video = null;
}

/** Shows frame after frame: the image, and in the same moment what is said of it. */
async function showVideo() {
  video?.abort();
  const mine = video = new AbortController();
  try {
    for await (const { labels, image } of frames(mine.signal)) {
      showImage(image);
      showLabels(labels);
      lateSince = 0;
    }
  } catch { /* the connection ended, or an image cannot be decoded */ }
  setTimeout(() => { if (events && video === mine) showVideo(); }, 3000);
}

function showImage(image) {
  const canvas = at("video");
  if (canvas.width !== image.width || canvas.height !== image.height) Object.assign(canvas, { width: image.width, height: image.height });
  canvas.getContext("2d").drawImage(image, 0, 0);
  image.close();
  at("frame").classList.add("has-picture");
}

/** Where no images come though frames do, as when they cannot be encoded, the labels of the latest frame are shown. */
function showLateLabels() {
  if (!state.labels || state.labels.sequence === shown) return;
  lateSince ||= Date.now();
  if (Date.now() - lateSince > LATE_AFTER) showLabels(state.labels);
}

document.addEventListener("visibilitychange", () => document.hidden ? disconnect() : connect());
addEventListener("pagehide", disconnect);
addEventListener("pageshow", (event) => event.persisted && connect());

setInterval(() => {
  if (document.hidden) return;
  if (events && Date.now() - heard > SILENT_AFTER) reconnect();
  showStatus();
}, 1000);

function showStatus() {
  const lost = !events || events.readyState !== EventSource.OPEN;
  const [kind, text] = lost
    ? (refusal ? ["lost", refusal]
      : state ? ["lost", "Disconnected, trying again…"]
      : tries ? ["lost", "The camera does not answer, trying again…"]
      : ["waiting", "Connecting…"])
    : !state ? ["waiting", "Connecting…"]
    : !state.health.ok ? ["stale", state.health.reason[0].toUpperCase() + state.health.reason.slice(1)]
    : state.log.state === "paused" ? ["unlogged", "Live, log paused"] : ["live", "Live"];
  at("status").dataset.is = kind;
  put(at("status"), text);
  const old = kind === "lost" || kind === "stale";
  document.body.classList.toggle("is-old", old);
  at("veil").hidden = !old;
  put(at("veil"), text);
  document.title = [old || !state ? text : state.facts.model, state?.facts.device_name ?? "edge-camera"].join(" · ");
}

// Labels.

function showLabels(labels) {
  shown = labels.sequence;
  put(at("labels-frame"), `frame ${number(labels.sequence)}`);
  const list = at("labels");
  while (list.children.length > labels.top.length) list.lastChild.remove();
  labels.top.forEach(({ label, probability }, rank) => {
    if (!list.children[rank]) {
      const track = make("div", { className: "track" }, make("i"));
      track.setAttribute("aria-hidden", "true");
      list.append(make("li", {}, make("div", { className: "name" }, make("span"), make("span")), track));
    }
    const [name, share] = list.children[rank].firstChild.children;
    put(name, label);
    put(share, `${number(probability * 100, 1)} %`);
    list.children[rank].querySelector("i").style.transform = `scaleX(${probability})`;
  });
  list.classList.toggle("is-doubtful", labels.decision === null);
  at("doubt").hidden = labels.decision !== null;
  tile("figures", "End-to-end", `${ms(labels.age_ms)} ms`);
  tile("figures", "Inference", `${ms(labels.infer_ms)} ms`);
  tile("figures", "Frames", number(labels.frames));
  spoken = labels.decision ?? "";
}

// Read aloud what it is, not every flicker: at most once in three seconds.
setInterval(() => put(at("spoken"), spoken), 3000);

// Everything else.

function tile(list, name, text, kind = "", values = null) {
  const id = `${list}-${name.toLowerCase().replaceAll(" ", "-")}`;
  let value = at(id);
  if (!value) {
    value = make("dd", { id }, make("span"));
    at(list).append(make("div", { className: name === "Throttling" ? "wide" : "" }, make("dt", { textContent: name }), value));
  }
  put(value.firstChild, text);
  value.className = kind;
  if (values) sparkline(value, values, name);
}

for (const name of ["End-to-end", "Throughput", "Inference", "Frames", "Skipped", "Restarts"]) tile("figures", name, "–");

function showState() {
  const { facts } = state;
  put(at("device-name"), facts.device_name);
  put(at("model"), `${facts.model} ${facts.precision}`);
  tile("figures", "Throughput", `${number(state.fps, 1)} fps`);
  showLateLabels();
  tile("figures", "Skipped", number(state.skipped), state.skipped ? "warn" : "");
  tile("figures", "Restarts", number(state.restarts), state.restarts ? "warn" : "");
  showLatency();
  showDevice();
  showSession();
  showEvents();
}

function showLatency() {
  const body = at("stages").tBodies[0];
  if (!body.children.length) body.replaceChildren(...Object.keys(ROWS).map(stageRow));
  at("elsewhere").hidden = !state.decoded_elsewhere;
  for (const row of body.children) {
    const summary = state.latency[row.dataset.stage];
    ["p50", "p90", "p99", "max"].forEach((name, column) => put(row.children[column + 1], summary ? ms(summary[name]) : "–"));
  }
  draw();
}

function stageRow(stage) {
  const isLine = stage === "age";
  const swatch = make("span", { className: "swatch" });
  const name = make(isLine ? "span" : "button", { className: "name" });
  if (isLine) {
    swatch.classList.add("line");
    swatch.style.setProperty("--colour", "var(--ink)");
  } else {
    swatch.style.setProperty("--colour", `var(--${stage})`);
    name.type = "button";
    name.setAttribute("aria-pressed", String(!left.has(stage)));
    name.onclick = () => {
      left.has(stage) ? left.delete(stage) : left.add(stage);
      name.setAttribute("aria-pressed", String(!left.has(stage)));
      draw();
    };
  }
  name.append(swatch, ROWS[stage]);
  const row = make("tr", {}, make("th", { scope: "row" }, name), ...[0, 1, 2, 3].map(() => make("td")));
  row.dataset.stage = stage;
  return row;
}

function draw() {
  if (!state) return;
  const stacked = [...WORK, "capture"].filter((stage) => !left.has(stage));
  const isWhole = WORK.every((stage) => !left.has(stage)); // else the line would stand above nothing
  at("chart").setAttribute("aria-label", drawChart(at("chart"), state.history, stacked, isWhole, state.at, ROWS));
}
new ResizeObserver(draw).observe(at("chart"));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);

function showDevice() {
  put(at("hardware"), state.facts.hardware);
  const { sample, samples } = state;
  const series = (name) => samples.map((one) => one[name]).filter((value) => value !== null);
  const value = (name, text) => (!sample || sample[name] === null ? ["not told", "none"] : [text(sample[name]), ""]);
  tile("device", "Temperature", ...value("temperature_c", (v) => `${number(v, 1)} °C`), series("temperature_c"));
  tile("device", "Clock", ...value("clock_mhz", (v) => `${number(v)} MHz`), series("clock_mhz"));
  tile("device", "Memory", ...value("memory_mb", (v) => `${number(v)} MB`), series("memory_mb"));
  if (state.facts.governor) tile("device", "Governor", state.facts.governor);
  tile("device", "Throttling", ...throttling(sample?.throttled ?? null));
  if (sample?.power_mode) tile("device", "Power mode", sample.power_mode);
}

function throttling(words) {
  if (words === null) return ["not told", "none"];
  if (!words.length) return ["none", ""];
  return [words.join(", "), words.some((word) => !word.endsWith("(earlier)")) ? "bad" : "warn"];
}

function showSession() {
  const { facts, log } = state;
  const logged = { off: "none", writing: "being written", paused: `paused: ${log.reason}` }[log.state];
  const logIs = log.state === "paused" ? "bad" : log.dropped ? "warn" : "";
  const rows = {
    Model: `${facts.model}, ${facts.precision}, input ${facts.input}`,
    File: facts.file,
    "SHA-256": `${facts.sha256.slice(0, 12)}…`,
    Runtime: `${facts.runtime}, ${facts.threads} thread${facts.threads === 1 ? "" : "s"}`,
    Source: facts.settings ? `${facts.source} (${facts.settings})` : facts.source,
    Loaded: `in ${ms(facts.load_ms)} ms, first inference ${ms(facts.first_ms)} ms`,
    Running: `for ${duration(state.at - state.started)}`,
    Log: log.dropped ? `${logged}, ${number(log.dropped)} rows dropped` : logged,
    System: [facts.device.os, facts.device.kernel].filter(Boolean).join(", "),
    Device: `${facts.device_name}, id ${facts.device_id.split("-")[0]}`,
    Program: `edge-pipeline ${facts.program}`,
  };
  const list = at("session");
  if (!list.children.length)
    for (const name of Object.keys(rows)) list.append(make("dt", { textContent: name }), make("dd", { id: `session-${name.toLowerCase()}` }));
  Object.values(rows).forEach((text, index) => put(list.children[2 * index + 1], text));
  at("session-log").className = logIs;
}

function showEvents() {
  const shown = JSON.stringify([state.events, new Date().toDateString()]);
  const list = at("events");
  if (list.dataset.shown === shown) return;
  list.dataset.shown = shown;
  const rows = [...state.events].reverse().map((one) => make("li", {},
    make("time", { dateTime: new Date(one.at * 1000).toISOString(), textContent: clock(one.at) }),
    make("span", {}, make("span", { className: "kind", textContent: one.times > 1 ? `${one.kind} ×${number(one.times)}` : one.kind }), one.reason)));
  list.replaceChildren(...(rows.length ? rows : [make("li", {}, make("span", { className: "quiet", textContent: "Nothing happened so far." }))]));
}

if (!document.hidden) connect();
