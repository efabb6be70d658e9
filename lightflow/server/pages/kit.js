// What all pages use: elements, formats, requests, the live feed, small components.
// The server appends LOOKS to this file: the sign and the word of each state.

import { h, render } from "./vendor/preact.js";
import { useState, useEffect, useLayoutEffect, useMemo, useRef } from "./vendor/hooks.js";
import htm from "./vendor/htm.js";

export { h, render, useState, useEffect, useLayoutEffect, useMemo, useRef };

// -- formats ----------------------------------------------------------------------------------------------------------

// Joiners are text inside an emoji, and between letters of the scripts from Arabic to Mongolian, which need them.
const HIDDEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff]|(?<![\u0600-\u18af\ufe0f\p{Extended_Pictographic}\p{Emoji_Modifier}])[\u200c\u200d]|[\u200c\u200d](?![\u0600-\u18af\p{Extended_Pictographic}])/gu;

/** Return text with control characters and changes of direction made visible. */
export const clean = text => String(text).replace(HIDDEN, character =>
  `\u2420${character.codePointAt(0).toString(16).padStart(4, "0")}`);

/** Return a part of a page as it is shown: text is clean. */
const shown = part => typeof part === "string" ? clean(part) : Array.isArray(part) ? part.map(shown) : part;

/** Make an element of a template; the text in it, and that of its title and its label, is clean. */
export const html = htm.bind((type, props, ...parts) => {
  for (const name of ["title", "aria-label"]) if (props?.[name]) props[name] = shown(props[name]);
  return h(type, props, ...parts.map(shown));
});

export const number = value => value == null ? "" : Number(value).toLocaleString("en");

/** Return "1 run", "2 runs". */
export const many = (count, noun) => `${number(count)} ${noun}${count === 1 ? "" : "s"}`;

/** Return a duration as the command line has it: 420 ms, 1.42 s, 12.3 s, 3 min 20 s, 2 h 05 min. */
export function duration(seconds) {
  if (seconds == null || !isFinite(seconds)) return "";
  const s = Math.max(0, seconds), two = value => String(value).padStart(2, "0");
  if (s < 0.9995) return `${Math.round(s * 1000)} ms`;
  if (s < 9.995) return `${s.toFixed(2)} s`;
  if (s < 59.95) return `${s.toFixed(1)} s`;
  const whole = Math.round(s);
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${two(whole % 60)} s`;
  if (whole < 86400) return `${Math.floor(whole / 3600)} h ${two(Math.floor(whole % 3600 / 60))} min`;
  return `${Math.floor(whole / 86400)} d ${two(Math.floor(whole % 86400 / 3600))} h`;
}

export function size(bytes) {
  if (bytes == null) return "";
  if (bytes < 1000) return `${bytes} B`;
  const units = ["kB", "MB", "GB", "TB"];
  let value = bytes, unit = -1;
  do { value /= 1000; unit += 1; } while (value >= 999.5 && unit < units.length - 1);
  return `${value.toFixed(value < 10 ? 1 : 0)} ${units[unit]}`;
}

/** Return the seconds between two times of answers; until now where the second is missing. */
export const secondsBetween = (from, to, now = Date.now()) =>
  from == null ? null : ((to == null ? now : Date.parse(to)) - Date.parse(from)) / 1000;

export const ZONE = Intl.DateTimeFormat().resolvedOptions().timeZone;
const formats = new Map();
function format(zone, options) {
  const key = `${zone} ${JSON.stringify(options)}`;
  if (!formats.has(key)) formats.set(key, new Intl.DateTimeFormat("en-GB", { timeZone: zone, ...options }));
  return formats.get(key);
}

/** Return a time such as "Fri 27 Nov, 02:30:00" in a zone; by default in the zone of the browser. */
export function moment(iso, { zone = ZONE, seconds = true } = {}) {
  if (iso == null) return "";
  const at = new Date(iso), time = { hour: "2-digit", minute: "2-digit", ...(seconds && { second: "2-digit" }) };
  const year = at.getFullYear() === new Date().getFullYear() ? {} : { year: "numeric" };
  const day = format(zone, { weekday: "short", day: "2-digit", month: "short", ...year }).format(at).replace(",", "");
  return `${day}, ${format(zone, time).format(at)}`;
}

export const clock = (at, zone = ZONE) =>
  format(zone, { hour: "2-digit", minute: "2-digit", second: "2-digit" }).format(at);

/** Return the distance of a time: "3 min ago", "in 12 h". */
export function relative(iso, now = Date.now()) {
  const seconds = (Date.parse(iso) - now) / 1000, size = Math.abs(seconds);
  const text = size < 1 ? "now" : size < 60 ? `${Math.floor(size)} s` : size < 3600 ? `${Math.floor(size / 60)} min`
    : size < 172800 ? `${Math.floor(size / 3600)} h` : `${Math.floor(size / 86400)} days`;
  return text === "now" ? text : seconds < 0 ? `${text} ago` : `in ${text}`;
}

/** Return text in the middle of which characters are left out; names often differ at their ends. */
export function shorten(text, limit) {
  if (text.length <= limit) return text;
  const tail = Math.floor((limit - 1) / 2);
  return `${text.slice(0, limit - 1 - tail)}…${text.slice(text.length - tail)}`;
}

/** Return a value as text: JSON where it is none. */
export const textOf = (value, indent) => typeof value === "string" ? value : JSON.stringify(value, null, indent);

export const instanceName = row => row.map_index == null ? row.task : `${row.task}[${row.map_index}]`;

/** Compares names as people order them: t2 before t10. */
export const byName = new Intl.Collator("en", { numeric: true }).compare;

/** Return the objects of an answer that has columns. */
export function rowsOf({ columns, rows }) {
  return rows.map(row => {
    const object = {};
    for (let at = 0; at < columns.length; at++) object[columns[at]] = row[at]; // ten times as fast as Object.fromEntries
    return object;
  });
}

/** Return how often each state is in a list; what has none is not counted. */
export function tallied(states) {
  const counts = {};
  for (const state of states) if (state) counts[state] = (counts[state] || 0) + 1;
  return counts;
}
export const total = counts => Object.values(counts).reduce((sum, count) => sum + count, 0);

/** Return the greatest number of a list that may be longer than the arguments of a function, or `least`. */
export const greatest = (numbers, least = 0) => numbers.reduce((most, each) => Math.max(most, each), least);

// -- addresses --------------------------------------------------------------------------------------------------------

export const encode = encodeURIComponent;

/** Return the address of a page: `href(["r", id, "table"], {state: "FAILED"})`. */
export function href(parts, query = {}) {
  const pairs = Object.entries(query).filter(([, value]) => value != null && value !== "");
  const text = pairs.map(([name, value]) => `${encode(name)}=${encode(value)}`).join("&");
  return `#/${parts.filter(part => part != null).map(encode).join("/")}${text && `?${text}`}`;
}
export const taskHref = (run, row) => href(["r", run, "t", row.task, row.map_index]);
export const go = address => { location.hash = address; };

/** Return the path of a task of a run in the API. */
export const taskPath = (run, task, index) =>
  `runs/${encode(run)}/tasks/${encode(task)}${index == null ? "" : `/${index}`}`;

/** Return the fragment of the address, also after each change of it. */
export function useAddress() {
  const [address, set] = useState(location.hash);
  useLayoutEffect(() => { // before the browser paints, so that no change of the address comes before it
    const follow = () => set(location.hash);
    addEventListener("hashchange", follow);
    follow();
    return () => removeEventListener("hashchange", follow);
  }, []);
  return address;
}

// -- requests ---------------------------------------------------------------------------------------------------------

const BASE = new URL("../api/v1/", import.meta.url);
const KEY = `lightflow${BASE.pathname}`;

export class Problem extends Error {
  constructor(status, { detail = "", errors = [] }) {
    super(detail);
    this.status = status;
    this.fields = Object.fromEntries(errors.map(error => [error.field, error.message]));
  }
}

/** The token of this tab, and the role that it has. A cookie would be sent to all servers of this machine. */
export const session = {
  token: sessionStorage.getItem(KEY),
  role: sessionStorage.getItem(`${KEY}role`),
  onEnd: () => {},
  set(token, role) {
    Object.assign(session, { token, role });
    sessionStorage.setItem(KEY, token);
    sessionStorage.setItem(`${KEY}role`, role);
  },
  end() {
    Object.assign(session, { token: null, role: null });
    sessionStorage.removeItem(KEY);
    session.onEnd();
  },
  get mayAct() { return session.role === "operator"; },
};

/** Send a request; return the response. Raises Problem with a sentence for people. */
export async function request(path, { method = "GET", body, key, signal, token = session.token } = {}) {
  const headers = {};
  if (token) headers.Authorization = `Bearer ${token}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (key) headers["Idempotency-Key"] = key;
  let response;
  try {
    response = await fetch(new URL(path, BASE), {
      method, headers, signal, body: body === undefined ? undefined : JSON.stringify(body), credentials: "omit",
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, { detail:
      "The server does not answer. Runs continue without it; `lightflow status` shows them." });
  }
  if (response.ok) return response;
  const problem = new Problem(response.status, await response.json().catch(() => ({ detail: response.statusText })));
  if (response.status === 401 && token === session.token && token) session.end();
  throw problem;
}
/** Return a key with which a request that is sent twice acts once. */
export const newKey = () => `${Date.now()}-${Math.random().toString(36).slice(2)}`;

export const get = async (path, options) => (await request(path, options)).json();
export const send = async (method, path, body, options) => (await request(path, { method, body, ...options })).json();

// -- the live feed ----------------------------------------------------------------------------------------------------
// One tab of a browser holds the stream and hands its frames to the others: a browser opens six connections at most.

const TAB = Math.random().toString(36).slice(2);
const seq = position => Number((position || "").split(".")[1] || 0);
const older = (a, b) => !a ? b : !b ? a : seq(a) <= seq(b) ? a : b;

const SILENCE = 40000; // milliseconds; the server sends a comment each 15 s

/** Wait for a part of the stream; a network that is away is silent, and ends nothing. */
async function inTime(part) {
  let timer;
  const silence = new Promise((_, reject) => { timer = setTimeout(() => reject(new Problem(0, { detail: "the stream is silent" })), SILENCE); });
  try { return await Promise.race([part, silence]); }
  finally { clearTimeout(timer); }
}

class Feed {
  constructor() {
    this.state = "connecting"; // live, lost, unread: the server cannot read the state file
    this.lostAt = null;
    this.problem = null; // why it cannot
    this.watchers = new Set(); // of the state
    this.topics = new Map(); // topic -> set of followers
    this.others = new Map(); // tab -> its topics
    this.gone = new Set(); // topics that the server does not have
    this.leads = false;
    this.open = null; // the stream: its topics and how to abort it
    this.position = null;
    this.channel = new BroadcastChannel(KEY);
    this.channel.onmessage = event => this.receive(event.data);
    addEventListener("pagehide", () => this.tell({ kind: "want", topics: [] }));
  }

  tell(message) { this.channel.postMessage({ ...message, tab: TAB }); }

  /** Begin, once there is a token: the tab with the lock leads. */
  start() {
    if (this.started) return;
    this.started = true;
    const lead = () => {
      this.leads = true;
      this.tell({ kind: "who" });
      this.refresh();
      return new Promise(() => {});
    };
    if (navigator.locks) {
      navigator.locks.request(KEY, lead);
      this.tell({ kind: "state?" });
    } else lead();
  }

  /** Follow a topic from the position of a snapshot; return the function that ends it. */
  follow(topic, asOf, onFrame, onReset) {
    const follower = { onFrame, onReset };
    if (!this.topics.has(topic)) this.topics.set(topic, new Set());
    this.topics.get(topic).add(follower);
    this.gone.delete(topic);
    this.want(asOf);
    return () => {
      const followers = this.topics.get(topic);
      followers?.delete(follower);
      if (followers && !followers.size) this.topics.delete(topic);
      this.want(null);
    };
  }

  want(asOf) {
    this.tell({ kind: "want", topics: [...this.topics.keys()], asOf });
    if (this.leads) this.refresh(asOf);
    else this.from = older(this.from, asOf); // this tab may lead later
  }

  receive(message) {
    if (message.kind === "want") {
      if (message.topics.length) this.others.set(message.tab, message.topics);
      else this.others.delete(message.tab);
      if (this.leads) this.refresh(message.asOf);
    } else if (message.kind === "who") this.want(this.from);
    else if (message.kind === "frame") this.deliver(message.event, message.data);
    else if (message.kind === "state") this.setState(message.state, message.lostAt, true, message.problem);
    else if (message.kind === "state?" && this.leads) this.tell({ kind: "state", state: this.state, lostAt: this.lostAt, problem: this.problem });
    else if (message.kind === "token?" && session.token)
      this.tell({ kind: "token", token: session.token, role: session.role });
    else if (message.kind === "token" && !session.token) this.onToken?.(message);
  }

  setState(state, lostAt = null, told = false, problem = null) {
    if (state === this.state && lostAt === this.lostAt && problem === this.problem) return;
    Object.assign(this, { state, lostAt, problem });
    document.body.dataset.feed = state;
    if (!told && this.leads) this.tell({ kind: "state", state, lostAt, problem });
    for (const watcher of this.watchers) watcher();
  }

  /** Open the stream again where a topic is new; its frames may come twice, which changes nothing. */
  refresh(asOf) {
    this.from = older(this.from, asOf);
    clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      const all = new Set([...this.topics.keys(), ...[...this.others.values()].flat()]);
      const topics = new Set([...all].filter(topic => !this.gone.has(topic)).slice(0, 20));
      const from = this.from;
      this.from = null;
      if (!topics.size) return;
      // What came before a follower was there, its snapshot has; else it has to come again.
      const reached = this.position ? seq(this.position) : Infinity;
      if (this.open && [...topics].every(topic => this.open.topics.has(topic)) && (!from || seq(from) >= reached)) return;
      this.open?.abort.abort();
      this.read(topics, older(this.position, from));
    }, 20);
  }

  async read(topics, from) {
    const abort = new AbortController();
    this.open = { topics, abort };
    this.position = from; // the ids of frames move it on; without one, the first id says where the stream begins
    const query = new URLSearchParams({ topics: [...topics].join(",") });
    if (from) query.set("as_of", from);
    try {
      const response = await inTime(request(`stream?${query}`, { signal: abort.signal }));
      this.setState("live");
      this.tries = 0;
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      let rest = "";
      for (;;) {
        const { value, done } = await inTime(reader.read());
        if (abort.signal.aborted) return;
        if (done) break;
        const blocks = (rest + value).split("\n\n");
        rest = blocks.pop();
        for (const block of blocks) this.take(block);
      }
      throw new Problem(0, { detail: "the stream has ended" });
    } catch (error) {
      if (abort.signal.aborted) return;
      if (error.status === 401) return;
      const missing = error.status === 404 ? Object.keys(error.fields) : [];
      if (missing.length) { // logs that were deleted; the other topics go on
        for (const topic of missing) this.gone.add(topic);
        this.open = null;
        this.refresh(from);
        return;
      }
      abort.abort();
      this.open = null;
      this.tries = (this.tries || 0) + 1;
      this.setState("lost", this.lostAt || Date.now());
      setTimeout(() => { if (!this.open) this.refresh(); }, Math.min(500 * this.tries, 5000));
    }
  }

  take(block) {
    let event = "message", data = "";
    for (const line of block.split("\n")) {
      const colon = line.indexOf(": ");
      if (colon <= 0) continue;
      const name = line.slice(0, colon), value = line.slice(colon + 2);
      if (name === "id") this.position = value;
      else if (name === "event") event = value;
      else if (name === "data") data += value;
    }
    if (!data) return;
    const content = JSON.parse(data);
    this.tell({ kind: "frame", event, data: content });
    this.deliver(event, content);
  }

  deliver(event, data) {
    if (event === "problem") this.setState(data.problem ? "unread" : "live", null, true, data.problem);
    else if (event === "reset") for (const followers of this.topics.values()) for (const each of followers) each.onReset();
    else for (const each of this.topics.get(data.topic) || []) each.onFrame(data);
  }
}
export const feed = new Feed();

/** Return [state, lostAt, problem] of the feed. */
export function useFeedState() {
  const [, set] = useState(0);
  useLayoutEffect(() => {
    const watcher = () => set(count => count + 1);
    feed.watchers.add(watcher);
    return () => feed.watchers.delete(watcher);
  }, []);
  return [feed.state, feed.lostAt, feed.problem];
}

/**
 * Read a path, and keep the answer live: `apply(data, frame)` returns the data with a frame of the topic.
 * Frames between two pictures of the screen are applied together. The path is read again when `cause` changes. Old data
 * stays until new data is there.
 */
export function useLive(path, topic = null, apply = (data, frame) => data, cause = null) {
  const [state, set] = useState({ data: null, problem: null, path: null });
  const [round, setRound] = useState(0);
  const latest = useRef(apply);
  latest.current = apply;
  useEffect(() => {
    if (path == null) return undefined;
    const abort = new AbortController();
    let stop = null, frames = [], picture = 0;
    const paint = () => {
      picture = 0;
      const taken = frames;
      frames = [];
      set(old => ({ ...old, data: taken.reduce((data, frame) => latest.current(data, frame), old.data) }));
    };
    const onFrame = frame => {
      frames.push(frame);
      if (!picture) picture = requestAnimationFrame(paint);
      if (document.hidden && frames.length > 50) { cancelAnimationFrame(picture); paint(); }
    };
    const follow = (asOf, onFrame) => { if (topic) stop = feed.follow(topic, asOf, onFrame, () => setRound(count => count + 1)); };
    get(path, { signal: abort.signal }).then(data => {
      set({ data, problem: null, path, at: Date.now() });
      follow(data.as_of, onFrame);
    }, problem => {
      if (problem.name === "AbortError") return;
      set(old => ({ ...old, problem, path }));
      follow(null, () => {}); // which says when it can be read
    });
    return () => { abort.abort(); stop?.(); cancelAnimationFrame(picture); };
  }, [path, topic, round, cause]);
  const [connection] = useFeedState();
  useEffect(() => {
    if (connection === "live" && [0, 503].includes(state.problem?.status)) setRound(count => count + 1);
  }, [connection]);
  return { ...state, isStale: state.path !== path, reload: () => setRound(count => count + 1) };
}

/** Read a path, and again after a change of `cause`, at most twice a second. */
export function useReread(path, cause) {
  const [seen, see] = useState(cause), timer = useRef(0), latest = useRef();
  latest.current = cause;
  useEffect(() => { if (cause !== seen) timer.current ||= setTimeout(() => { timer.current = 0; see(latest.current); }, 500); });
  useEffect(() => () => clearTimeout(timer.current), []);
  return useLive(path, null, undefined, seen);
}

/** Read a path again after each change of runs, at most every `pause` milliseconds, and every 10 s. */
export function usePolled(path, pause = 500) {
  const live = useLive(path);
  const reload = useRef(live.reload);
  reload.current = live.reload;
  useEffect(() => {
    let timer = 0;
    const soon = () => { timer ||= setTimeout(() => { timer = 0; if (!document.hidden) reload.current(); }, pause); };
    const stop = feed.follow("runs", null, soon, soon), interval = setInterval(soon, 10000);
    return () => { stop(); clearTimeout(timer); clearInterval(interval); };
  }, [path]);
  return live;
}

// -- time -------------------------------------------------------------------------------------------------------------

const tickers = new Set();
let ticking = 0;

/** Return the present, again each second: one clock for the whole page. `active` false: it stands still. */
export function useNow(active = true) {
  const [now, set] = useState(Date.now());
  useEffect(() => {
    if (!active) return undefined;
    tickers.add(set);
    ticking ||= setInterval(() => { const at = Date.now(); for (const each of tickers) each(at); }, 1000);
    return () => {
      tickers.delete(set);
      if (!tickers.size) { clearInterval(ticking); ticking = 0; }
    };
  }, [active]);
  return active ? Math.max(now, Date.now()) : now;
}

// -- small components -------------------------------------------------------------------------------------------------

export const look = state => state == null ? ["·", "has not run"] : LOOKS[state] || ["?", String(state).toLowerCase().replaceAll("_", " ")];
export const ACTIVE = new Set(["PENDING", "RUNNING"]);
export const ENDED = new Set(["SUCCESS", "FAILED", "SKIPPED", "UPSTREAM_FAILED", "CANCELLED"]);
/** The states of tasks: what a person wants to see first is first. */
export const ORDER = ["FAILED", "UP_FOR_RETRY", "RUNNING", "WAITING", "QUEUED", "PENDING", "UPSTREAM_FAILED", "CANCELLED", "SKIPPED", "SUCCESS"];
export const rank = state => ORDER.indexOf(state) + 1 || 99;
/** The state of several tasks together is the first of these that one of them has. */
const COMBINED = ["RUNNING", "WAITING", "UP_FOR_RETRY", "QUEUED", "PENDING", "FAILED", "CANCELLED", "UPSTREAM_FAILED", "SUCCESS"];
export const combined = counts => COMBINED.find(state => counts[state]) || Object.keys(counts)[0] || null;
export const wordOf = state => look(state)[1];

/** Return a mapped task or a group with the time from the first start to the last end of what is in it. */
export function spanned(row, inside) {
  let started_at = null, ended_at = null;
  for (const each of inside) {
    if (each.started_at && (!started_at || each.started_at < started_at)) started_at = each.started_at;
    if (each.ended_at && (!ended_at || each.ended_at > ended_at)) ended_at = each.ended_at;
  }
  return { ...row, started_at, ended_at: ENDED.has(row.status) ? ended_at : null };
}

/** A state: its sign, its colour, its word. */
export const State = ({ state, small }) => {
  const [sign, word] = look(state);
  return html`<span class=${`state${small ? " small" : ""}`} data-state=${state || "NONE"} title=${small ? word : undefined}>
    <span class="sign" aria-hidden="true">${sign}</span><span class=${small ? "hidden" : "word"}>${word}</span></span>`;
};

export const Ago = ({ at }) => {
  const now = useNow(at != null);
  return at == null ? "" : html`<time dateTime=${at} title=${`${moment(at)} ${ZONE}\n${at}`}>${relative(at, now)}</time>`;
};

/** An instant in a zone, how far it is, and the time in the zone of the browser where that differs. */
export const Instant = ({ at, zone }) => {
  const now = useNow(), here = moment(at, { seconds: false }), there = zone ? moment(at, { zone, seconds: false }) : here;
  return html`<time dateTime=${at} title=${`${moment(at, { zone: "UTC" })} UTC`}>${there}${zone && ` ${zone}`}
    <span class="muted"> · ${relative(at, now)}${there !== here ? ` (here ${here.replace(`${there.split(", ")[0]}, `, "")})` : ""}</span></time>`;
};

/** The duration of a row that may still be running. */
export const Took = ({ row }) => {
  const runs = row.started_at != null && row.ended_at == null;
  const now = useNow(runs);
  const seconds = secondsBetween(row.started_at, row.ended_at, now);
  return html`<span class="took">${runs && seconds < 60 ? `${Math.floor(seconds)} s` : duration(seconds)}</span>`;
};

/** The numbers of tasks by state. */
export const Tally = ({ counts, onPick, picked }) => html`<span class="tally">${Object.entries(counts || {})
  .filter(([, count]) => count).sort(([a], [b]) => rank(a) - rank(b)).map(([state, count]) => {
    const label = html`<span class="sign" aria-hidden="true">${look(state)[0]}</span> ${number(count)}<span class="hidden"> ${wordOf(state)}</span>`;
    return onPick
      ? html`<button type="button" class="count" data-state=${state} key=${state} title=${`show only: ${wordOf(state)}`}
          aria-pressed=${picked === state} onClick=${() => onPick(picked === state ? null : state)}>${label}</button>`
      : html`<span class="count" data-state=${state} key=${state} title=${wordOf(state)}>${label}</span>`;
  })}</span>`;

/** What a run waits for, where that is a person. */
export const Asks = ({ run }) => run.approvals?.length > 0 && html`<a class="count" data-state="WAITING" href=${href(["r", run.run_id, "table"], { state: "WAITING" })}
  title=${run.approvals.slice(0, 20).join(", ")}>waits for ${many(run.approvals.length, "decision")}</a>`;

/** Return the state, the start and the duration of a run. */
export const runText = ({ status, started_at, duration_s }) =>
  `${wordOf(status)} · ${moment(started_at) || "not started"} · ${duration(duration_s) || "no duration"}`;

/** Return the seconds of the longest run, for the height of bars. */
export const longest = runs => greatest(runs.map(run => run.duration_s || 0), 0.001);

/** A run of bars, the newest at the right: height is duration, colour and shape the state. */
export const Bars = ({ runs, label = "last runs" }) => {
  const shown = [...runs].reverse();
  const most = longest(shown);
  return html`<span class="bars" role="list" aria-label=${label}>${shown.map(run => html`
    <a key=${run.run_id} role="listitem" class="bar" data-state=${run.status} href=${href(["r", run.run_id])} tabindex="-1"
      title=${runText(run)}>
      <i style=${{ height: `${4 + 18 * Math.sqrt((run.duration_s || 0) / most)}px` }}></i>
      <span class="hidden">${wordOf(run.status)}</span></a>`)}</span>`;
};

export const Failure = ({ problem, retry }) => problem && html`<div class="problem" role="alert">
  <span>${problem.message}</span>${retry && html` <button type="button" onClick=${retry}>Try again</button>`}</div>`;

/** Content that appears after 300 ms: a short wait shows nothing. */
export const Waiting = () => {
  const [shown, show] = useState(false);
  useEffect(() => { const timer = setTimeout(() => show(true), 300); return () => clearTimeout(timer); }, []);
  return html`<p class="muted waiting" aria-busy="true">${shown ? "Reading…" : ""}</p>`;
};

/**
 * Return the first row to draw of a long table, the one after the last, and the pixels of a row. These are those of the rows
 * that are drawn, together, where the width has changed: a narrow page has cards in the place of rows.
 */
export function useWindow(count, body, least = 32) {
  const [range, set] = useState([0, 60, least]), isLong = count > 150, measured = useRef([]);
  useLayoutEffect(() => {
    if (!isLong) return undefined;
    const update = () => {
      const box = body.current?.getBoundingClientRect();
      if (!box) return;
      if (measured.current[0] !== innerWidth) {
        const rows = [...body.current.rows].filter(row => row.className !== "space").map(row => row.getBoundingClientRect());
        measured.current = [innerWidth, rows.length ? Math.max(least, Math.round((rows.at(-1).bottom - rows[0].top) / rows.length)) : least];
      }
      const [, height] = measured.current;
      const first = Math.max(0, Math.floor(-box.top / height) - 10), last = first + Math.ceil(innerHeight / height) + 20;
      set(old => old[0] === first && old[1] === last && old[2] === height ? old : [first, last, height]);
    };
    update();
    addEventListener("scroll", update, { passive: true, capture: true });
    addEventListener("resize", update);
    return () => { removeEventListener("scroll", update, { capture: true }); removeEventListener("resize", update); };
  }, [count]);
  return isLong ? [Math.min(range[0], count - 1), Math.min(range[1], count), range[2]] : [0, count, least];
}

/** Rows of a table that are not drawn. */
export const Space = ({ count, height }) => count > 0 && html`<tr aria-hidden="true" class="space"><td colspan="99"><i style=${{ height: `${count * height}px` }}></i></td></tr>`;

/** The body of a table of any length; `row` draws one of the items. */
export const Rows = ({ items, row }) => {
  const body = useRef(), [first, last, height] = useWindow(items.length, body);
  return html`<tbody ref=${body}><${Space} count=${first} height=${height} />${items.slice(first, last).map(row)}<${Space} count=${items.length - last} height=${height} /></tbody>`;
};

/** What is shown in the place of an answer: the wait for it, or why there is none. */
export const Unread = ({ live }) => live.problem ? html`<${Failure} problem=${live.problem} retry=${live.reload} />` : html`<${Waiting} />`;

export const Empty = ({ title, children }) => html`<div class="empty"><h2>${title}</h2>${children}</div>`;

/** A field whose text counts once it is left, or Enter is pressed; what is being typed stays while the page changes. */
export const Typed = ({ value, ...rest }) => {
  const [text, type] = useState(value);
  useLayoutEffect(() => type(value), [value]); // before a person can type
  return html`<input ...${rest} value=${text} onInput=${event => type(event.target.value)} />`;
};

export const Copy = ({ text, label = "Copy", ...rest }) => {
  const [done, set] = useState(false);
  const copy = async () => {
    try { await navigator.clipboard.writeText(text); set(true); announce("copied"); setTimeout(() => set(false), 1500); }
    catch { notify(text, "Copy it from here:"); }
  };
  return html`<button type="button" class="quiet" ...${rest} onClick=${copy}>${done ? "Copied" : label}</button>`;
};

/** Return a function that tells of changes of the size of an element; it ends with the component. */
export function useResize(box, changed, causes) {
  useLayoutEffect(() => {
    if (!box.current) return undefined;
    changed();
    const observer = new ResizeObserver(changed);
    observer.observe(box.current);
    return () => observer.disconnect();
  }, causes);
}

// -- keys -------------------------------------------------------------------------------------------------------------

/**
 * All actions: the key of each and what it does. A control with `...${keyed("cancel")}` is clicked by its key; one in a row
 * only while the row has the focus.
 */
export const KEYS = {
  help: ["?", "this help"], colours: ["t", "colours: of the system, light, dark"],
  filter: ["/", "filter, find"], open: ["Enter", "open"], back: ["Escape", "close, back"],
  more: ["m", "more rows"], older: ["[", "previous run of the workflow"], newer: ["]", "next run of the workflow"],
  failure: ["e", "next failure"], log: ["l", "log of the selected task"],
  run: ["n", "run the workflow (asks)"], pause: ["o", "pause or continue triggers"], fire: ["i", "fire the trigger now"],
  cancel: ["x", "cancel the run (asks)"], resume: ["c", "resume the run (asks)"], again: ["a", "run again (asks)"],
  copy: ["y", "copy the command"], retry: ["h", "run from here (asks)"], mark: ["d", "mark by hand (asks)"],
  clear: ["u", "set back (asks)"], resize: ["z", "resize the pool (asks)"],
  follow: ["f", "follow the log"], wrap: ["w", "wrap lines of the log"], raw: ["v", "raw text of the log"], save: ["s", "download the log"],
  start: ["<", "start of the log"], end: [">", "end of the log"],
  zoomIn: ["+", "zoom in"], zoomOut: ["-", "zoom out"], fit: ["0", "fit the graph"], fold: ["b", "fold or unfold"],
};

/** Return the attributes of the control of an action. */
export const keyed = (action, title = KEYS[action][1]) =>
  ({ "data-key": KEYS[action][0], "aria-keyshortcuts": KEYS[action][0], title: `${title} (${KEYS[action][0]})` });

/** Return a listener of keys without modifiers; where `act(event)` is true, the event ends there. */
export const onKeys = act => event => {
  if (event.ctrlKey || event.altKey || event.metaKey || !act(event)) return;
  event.preventDefault();
  event.stopPropagation();
};

// -- messages ---------------------------------------------------------------------------------------------------------

export const messages = { announce: () => {}, notify: () => {} };
/** Say a sentence to a screen reader. */
export const announce = text => messages.announce(text);
/** Show a sentence for some seconds. */
export const notify = (text, title = "", tone = "info") => messages.notify({ text, title, tone });

/** Run an action; its answer or its problem becomes a sentence. Return the answer; undefined after a problem. */
export async function act(action, sentence) {
  try {
    const answer = await action();
    const text = typeof sentence === "function" ? sentence(answer) : sentence;
    if (text) notify(text);
    return answer;
  } catch (problem) {
    notify(problem.message, "", "bad");
    return undefined;
  }
}

/** Say what came of a request to start a run. */
export const startText = ({ run_id, status, reason }) =>
  status === "STARTED" ? `Run ${run_id} has started.` : `${wordOf(status)}: ${reason || "it starts when there is room."}`;

/** A button that is busy while its action runs. */
export const Action = ({ run, children, ...rest }) => {
  const [busy, set] = useState(false);
  const click = async () => { set(true); try { await run(); } finally { set(false); } };
  return html`<button type="button" disabled=${busy} aria-busy=${busy} onClick=${click} ...${rest}>${children}</button>`;
};

/** A dialog that takes the focus, and gives it back. */
export const Dialog = ({ title, onClose, children }) => {
  const dialog = useRef();
  useLayoutEffect(() => {
    const before = document.activeElement;
    dialog.current.showModal();
    return () => before?.focus?.();
  }, []);
  return html`<dialog ref=${dialog} aria-label=${title} onClose=${onClose} onCancel=${onClose}
    onClick=${event => { if (event.target === dialog.current) onClose(); }}>
    <header><h2>${title}</h2><button type="button" class="quiet" aria-label="Close" onClick=${onClose}>✕</button></header>
    ${children}</dialog>`;
};
