// The log of an attempt, of any size: windows by offset, only the visible lines in the page, and text as text nodes.
//
// `LogWindow` holds the part that was read, as bytes and lines with their offsets; it knows nothing of the page. The
// component shows the lines that are in view, and reads on where a person scrolls.

import { html, useState, useEffect, useLayoutEffect, useRef, request, feed, clean, size, number, notify, Failure, Waiting, keyed } from "./kit.js";

const WINDOW = 65536; // bytes of a read
const MOST = 8 * WINDOW; // bytes that are held
const LINE = 18; // pixels; one height for all lines
const LONGEST = 2000; // characters of a line that are shown
const NEWLINE = 10;
const END = "end"; // the place of the last window of a log
const decoder = new TextDecoder();

// -- lines, pure ------------------------------------------------------------------------------------------------------

// Escapes that do not colour: other control sequences, titles and links, single characters.
const ESCAPES = /\u001b(?:\[[0-?]*[ -/]*[@-ln-~]|\[[<-?][0-?]*m|\][^\u0007\u001b]*(?:\u0007|\u001b\\)?|[ -/]*[0-Z\\^-~])/g;
const COLOUR = /\u001b\[([0-9;:]*)m/;

/** Return a line as a terminal leaves it: what was last written after `\r`, without escapes that do not colour. */
export function collapsed(line) {
  const text = line.endsWith("\r") ? line.slice(0, -1) : line;
  const at = text.lastIndexOf("\r");
  const colours = at < 0 ? "" : text.slice(0, at).split(COLOUR).map((piece, place) => place % 2 ? `\u001b[${piece}m` : "").join("");
  return (colours + text.slice(at + 1)).replace(ESCAPES, "");
}

/** Return a line as a terminal leaves it, without colours. */
export const plainLine = line => collapsed(line).split(COLOUR).filter((piece, at) => at % 2 === 0).join("");

const NAMES = ["black", "red", "green", "yellow", "blue", "magenta", "cyan", "white"];
const MARKS = { 1: "bold", 2: "dim", 3: "italic", 4: "underline", 7: "reverse", 9: "strikethrough" };
const PLAIN = { fg: null, bg: null, marks: [] };

/** Return a colour of the palette as CSS: the first sixteen are variables of the stylesheet, two with one colour. */
function paletteColour(place) {
  if (place < 16) return `var(--${NAMES[place % 8]})`;
  if (place > 231) return `rgb(${Array(3).fill(8 + 10 * (place - 232))})`;
  const level = value => value ? 55 + 40 * value : 0, cube = place - 16;
  return `rgb(${[Math.floor(cube / 36), Math.floor(cube / 6) % 6, cube % 6].map(level)})`;
}

/** Return a look, `{fg, bg, marks}`, after the numbers of an escape that colours. */
export function coloured(look, codes) {
  for (let at = 0; at < codes.length; at++) {
    const code = codes[at], tens = Math.floor(code / 10), ground = { 3: "fg", 9: "fg", 4: "bg", 10: "bg" }[tens], ones = code % 10;
    if (!code) look = PLAIN;
    else if (MARKS[code]) look = { ...look, marks: [...look.marks, MARKS[code]] };
    else if (tens === 2) look = { ...look, marks: look.marks.filter(mark => mark !== MARKS[ones] && (ones > 2 || mark !== "bold")) };
    else if (ground && ones < 8) look = { ...look, [ground]: paletteColour(ones + (tens > 4 ? 8 : 0)) };
    else if (ground && tens < 9 && ones === 9) look = { ...look, [ground]: null };
    else if (ground && tens < 9) {
      const isOfPalette = codes[at + 1] === 5, values = codes.slice(at + 2, at + (isOfPalette ? 3 : 5)).map(value => value & 255);
      if (values.length) look = { ...look, [ground]: isOfPalette ? paletteColour(values[0]) : `rgb(${values})` };
      at += isOfPalette ? 2 : 4;
    }
  }
  return look;
}

/** Colours lines one after the other: a colour that is not reset goes on in the next line. */
export class Colours {
  constructor(look = PLAIN) { this.look = look; }

  /** Return the parts of a line: `{text, classes, fg, bg}`; a line without colours has one part. */
  parts(line) {
    const parts = [];
    collapsed(line).split(COLOUR).forEach((piece, at) => {
      if (at % 2) this.look = coloured(this.look, piece.split(/[;:]/).map(Number));
      else if (piece || !parts.length) parts.push({ text: piece, ...this.style() });
    });
    return parts;
  }

  style() {
    const { marks } = this.look, isReverse = marks.includes("reverse");
    const [fg, bg] = isReverse ? [this.look.bg, this.look.fg] : [this.look.fg, this.look.bg];
    const kinds = [[fg, "c"], [bg, "b"]].map(([colour, kind]) => colour && (colour[0] === "v" ? `named ${kind}` : kind));
    return { classes: [...kinds, ...marks.filter(mark => mark !== "reverse" || !fg && !bg)].filter(Boolean).join(" "), fg, bg };
  }
}

/** The part of a log that was read: bytes from `start` to `end`, and its lines with their offsets. */
export class LogWindow {
  constructor() { this.version = 0; this.reset({ bytes: new Uint8Array(), offset: 0, size: 0, generation: 0 }); }

  reset({ bytes, offset, size, generation }) {
    Object.assign(this, { bytes, start: offset, size, generation });
    this.version += 1;
    this.lines = [];
    this.parse(0);
  }

  get end() { return this.start + this.bytes.length; }

  /** Parse the bytes from a place on, and add their lines; one that is longer than a window becomes several. */
  parse(from, colours = new Colours()) {
    const { bytes } = this;
    for (let at = from; at < bytes.length;) {
      const newline = bytes.subarray(at, at + WINDOW).indexOf(NEWLINE), isLong = newline < 0 && bytes.length - at >= WINDOW;
      const end = newline >= 0 ? at + newline : Math.min(bytes.length, at + WINDOW), next = newline >= 0 ? end + 1 : end;
      const before = colours.look;
      const parts = colours.parts(decoder.decode(bytes.subarray(at, end)));
      this.lines.push({ at: this.start + at, next: this.start + next, parts, isWhole: newline >= 0 || isLong, before });
      at = next;
    }
    this.colours = colours;
  }

  /** Add what follows the last byte. */
  append({ bytes, size }) {
    this.size = size;
    if (!bytes.length) return;
    this.version += 1; // lines have other places now
    const last = this.lines.at(-1);
    let from = this.bytes.length;
    if (last && !last.isWhole) {
      this.lines.pop();
      from = last.at - this.start;
      this.colours.look = last.before;
    }
    this.bytes = joined(this.bytes, bytes);
    this.parse(from, this.colours);
    this.dropStart();
  }

  /** Add what is before the first byte. */
  prepend({ bytes, size }) {
    const rest = this.lines, first = rest[0], before = this.colours;
    this.size = size;
    this.version += 1;
    const head = first ? first.next - this.start : 0; // the first line may begin in what is added
    const known = this.bytes;
    this.start -= bytes.length;
    this.bytes = joined(bytes, known.subarray(0, head));
    this.lines = [];
    this.parse(0);
    this.bytes = joined(bytes, known);
    if (this.lines.length && rest.length) this.lines.at(-1).isWhole = first.isWhole;
    this.lines = this.lines.concat(rest.slice(1)); // there may be more than a function has arguments
    this.colours = before;
    this.dropEnd();
  }

  dropStart() {
    if (this.bytes.length <= MOST) return;
    const cut = this.lines.findIndex(line => line.at >= this.end - MOST + WINDOW);
    if (cut <= 0) return;
    const to = this.lines[cut].at;
    this.bytes = this.bytes.slice(to - this.start);
    this.lines.splice(0, cut);
    this.start = to;
  }

  dropEnd() {
    if (this.bytes.length <= MOST) return;
    let cut = this.lines.length - 1;
    while (cut > 1 && this.lines[cut].at > this.start + MOST - WINDOW) cut -= 1;
    const to = this.lines[cut].at;
    this.colours.look = this.lines[cut].before;
    this.lines.length = cut;
    this.bytes = this.bytes.slice(0, to - this.start);
  }

  /** Return the number of the line that has an offset. */
  lineAt(offset) {
    let low = 0, high = this.lines.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.lines[middle].at <= offset) low = middle; else high = middle - 1;
    }
    return Math.max(0, low);
  }
}

function joined(first, second) {
  const bytes = new Uint8Array(first.length + second.length);
  bytes.set(first);
  bytes.set(second, first.length);
  return bytes;
}

/** Return a text as pieces: those with odd numbers are the places of `words`. */
export function marked(text, words) {
  if (!words) return [text];
  const pieces = [];
  let from = 0;
  for (let at = text.indexOf(words); at >= 0; at = text.indexOf(words, from)) {
    pieces.push(text.slice(from, at), words);
    from = at + words.length;
  }
  return [...pieces, text.slice(from)];
}

// -- the reader -------------------------------------------------------------------------------------------------------

/** Reads windows of one log, one request at a time. */
class Reader {
  constructor(url, onChange) {
    Object.assign(this, { url, onChange, window: new LogWindow(), abort: new AbortController(), queue: Promise.resolve() });
  }

  async read(query) {
    const response = await request(`${this.url}?${new URLSearchParams(query)}`, { signal: this.abort.signal });
    const header = name => Number(response.headers.get(`X-Log-${name}`));
    return { bytes: new Uint8Array(await response.arrayBuffer()), offset: header("Offset"), size: header("Size"), generation: header("Generation") };
  }

  /** Do one thing after the other; what comes after the page has left is dropped. */
  then(action) {
    this.queue = this.queue.then(async () => {
      try { await action(); this.problem = null; }
      catch (problem) { this.problem = problem; if (problem.name === "AbortError") return; }
      this.onChange();
    });
    return this.queue;
  }

  /** Read a window in the place of what was read: from an offset on, or the end. */
  async show(place) { this.window.reset(await this.read({ ...(place === END ? { from: END } : { offset: place }), limit: WINDOW })); }

  jump(place) { return this.then(() => this.show(place)); }

  earlier() {
    return this.then(async () => {
      const { window } = this, offset = Math.max(0, window.start - WINDOW);
      if (offset === window.start) return;
      const read = await this.read({ offset, limit: window.start - offset });
      if (read.generation !== window.generation) await this.show(END);
      else window.prepend(read);
    });
  }

  /** Read on; to the end where `wholly`: from there when it is too far away. */
  later(wholly = false) {
    return this.then(async () => {
      const { window } = this;
      do {
        if (wholly && window.size - window.end > MOST / 2) return this.show(END);
        const read = await this.read({ offset: window.end, limit: WINDOW });
        if (read.generation !== window.generation || read.size < window.end) { this.wasCut = true; return this.show(END); }
        window.append(read);
        if (!read.bytes.length) return undefined;
      } while (wholly && window.end < window.size);
      return undefined;
    });
  }

  /** Find the next line with a text from an offset on, else from the start; return its offset, or null. */
  async find(text, from) {
    let place = null;
    await this.then(async () => {
      for (const offset of from > 0 ? [from, 0] : [0]) {
        const hit = await this.read({ find: text, offset, limit: 1 });
        if (!hit.bytes.length) continue;
        place = hit.offset;
        const { window } = this;
        if (place < window.start || place >= window.end || hit.generation !== window.generation)
          await this.show(Math.max(0, place - WINDOW / 4));
        return;
      }
    });
    return place;
  }

  /** Save the whole log as a file, a megabyte at a time. */
  async download(name, onShare) {
    const blocks = [];
    let offset = 0, all = 1;
    while (offset < all) {
      const read = await this.read({ offset, limit: 1 << 20 });
      if (!read.bytes.length) break;
      blocks.push(new Blob([read.bytes]));
      offset += read.bytes.length;
      all = read.size;
      onShare(offset / all);
    }
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob(blocks, { type: "text/plain" }));
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }
}

// -- the component ----------------------------------------------------------------------------------------------------

const Part = ({ part, words, limit }) => {
  const text = clean(part.text.length > limit ? part.text.slice(0, limit) : part.text);
  const pieces = marked(text, words).map((piece, at) => at % 2 ? html`<mark key=${at}>${piece}</mark>` : piece);
  return part.classes ? html`<span class=${part.classes} style=${{ "--c": part.fg, "--b": part.bg }}>${pieces}</span>` : pieces;
};

const Line = ({ line, words, isHit, isCut }) => {
  let left = LONGEST;
  const parts = [];
  for (const part of line.parts) {
    if (left <= 0) break;
    parts.push(html`<${Part} key=${parts.length} part=${part} words=${words} limit=${left} />`);
    left -= part.text.length;
  }
  const more = left < 0 ? line.parts.reduce((sum, part) => sum + part.text.length, 0) - LONGEST : 0;
  return html`<div class=${`line${isHit ? " hit" : ""}`}>${isCut && html`<i class="muted">… </i>`}${parts}${more > 0 && html`<i class="muted"> … ${number(more)} more characters (raw shows them)</i>`}</div>`;
};

/**
 * A log.
 *
 * url: its path below the API. live: whether it may grow; then topic: its topic of the feed. fromEnd: whether its end is
 * shown first, as for what runs or has failed. name: that of the downloaded file.
 */
export const Log = ({ url, live = false, topic = null, fromEnd = live, name = "task.log" }) => {
  const [, draw] = useState(0), [view, setView] = useState({ top: 0, height: 600 }), [mode, setMode] = useState("lines");
  const [following, follow] = useState(live), [words, setWords] = useState(""), [hit, setHit] = useState(null), [note, setNote] = useState("");
  const [share, setShare] = useState(null), [isRead, setRead] = useState(false), [dragged, drag] = useState(null);
  const scroller = useRef(), reader = useRef(), anchor = useRef(null), first = fromEnd ? END : 0, intent = useRef(first), moved = useRef(0), drawn = useRef(-1), placed = useRef(0);
  const log = reader.current?.window;

  useEffect(() => {
    const made = reader.current = new Reader(url, () => {
      if (made.wasCut) { made.wasCut = false; setNote("The middle of this log was cut out while it grew."); }
      setRead(true);
      draw(count => count + 1);
    });
    intent.current = first;
    made.jump(first);
    return () => made.abort.abort();
  }, [url]);

  const followed = useRef(following);
  followed.current = following;
  useEffect(() => {
    if (!live || !topic) return undefined;
    let busy = false;
    const onFrame = async frame => {
      const { current } = reader;
      if (!current) return;
      const isCut = frame.generation !== current.window.generation || frame.size < current.window.end;
      current.window.size = Math.max(frame.size, isCut ? 0 : current.window.size);
      if (busy) return;
      busy = true;
      if (followed.current) await current.later(true);
      else if (isCut) { await current.later(); } else draw(count => count + 1);
      busy = false;
      if (followed.current && !current.problem && current.window.end < current.window.size) onFrame({ ...frame, size: current.window.size });
    };
    return feed.follow(topic, null, onFrame, () => onFrame({ size: 0, generation: -1 }));
  }, [url, topic, live]);
  useEffect(() => {
    if (live || !reader.current || !followed.current) return;
    reader.current.later(true).then(() => { if (followed.current) intent.current = END; follow(false); });
  }, [live]);

  // After lines were added or dropped, the same line stays in its place; or the view moves where it was asked to.
  useLayoutEffect(() => {
    const box = scroller.current;
    if (!box || !log) return;
    const by = movedBy(box);
    if (followed.current && by < 0) follow(followed.current = false);
    if (intent.current === END || intent.current == null && followed.current) box.scrollTop = box.scrollHeight;
    else if (typeof intent.current === "number") box.scrollTop = Math.max(0, log.lineAt(intent.current) * LINE - box.clientHeight / 3);
    else if (anchor.current && mode === "lines") {
      const top = log.lineAt(anchor.current.at) * LINE + anchor.current.rest + by;
      if (Math.abs(top - box.scrollTop) >= 1) box.scrollTop = top;
    }
    intent.current = null;
    drawn.current = log.version;
    placed.current = box.scrollTop;
    remember(box);
  });

  /** Return how far a person has scrolled since the last drawing, where the event comes later; lines that are dropped move the view, too. */
  const movedBy = box => {
    const isPushed = box.scrollTop < placed.current && isAtBottom(box);
    return isPushed ? 0 : box.scrollTop - placed.current;
  };

  const busy = useRef(false);
  const reading = async action => { if (busy.current) return; busy.current = true; try { await action(); } finally { busy.current = false; draw(count => count + 1); } };
  // A view that is not full reads on, but not past what is held: a few long lines fill no view.
  const isShort = log && log.lines.length * LINE < view.height && log.end < log.size;
  useEffect(() => {
    if (isShort && log.bytes.length + WINDOW <= MOST && mode === "lines") reading(() => reader.current.later());
  });

  const remember = box => {
    if (!log?.lines.length) return;
    if (drawn.current === log.version) { // else the lines have changed, and what is in view is not drawn yet
      const first = Math.min(log.lines.length - 1, Math.floor(box.scrollTop / LINE));
      anchor.current = { at: log.lines[first].at, rest: box.scrollTop - first * LINE };
    }
    setView(old => old.top === box.scrollTop && old.height === box.clientHeight ? old : { top: box.scrollTop, height: box.clientHeight });
  };
  const isAtBottom = box => box.scrollTop + box.clientHeight >= box.scrollHeight - 4;
  const onScroll = () => {
    const box = scroller.current;
    if (!log) return;
    remember(box);
    const down = box.scrollTop > moved.current, isBottom = isAtBottom(box);
    moved.current = placed.current = box.scrollTop;
    if (live || following) follow(old => isBottom && (old || log.end >= log.size)); // what is followed may have grown already
    if (!down && box.scrollTop < 40 * LINE && log.start > 0) reading(() => reader.current.earlier());
    else if (down && box.scrollTop + box.clientHeight > box.scrollHeight - 40 * LINE && log.end < log.size) reading(() => reader.current.later());
  };
  const toEnd = async () => { follow(live); await reader.current.later(true); intent.current = END; draw(count => count + 1); };
  const jump = async place => { follow(false); await reader.current.jump(place); drag(null); intent.current = place; draw(count => count + 1); };
  const toStart = () => jump(0);
  const find = async event => {
    event.preventDefault();
    const text = event.target.elements.find.value;
    setWords(text);
    if (!text) { setHit(null); setNote(""); return; }
    follow(false);
    setNote("Searching…");
    const from = hit != null && text === words ? log.lines[log.lineAt(hit)]?.next || 0 : log.lines[Math.floor(view.top / LINE)]?.at || 0;
    const place = await reader.current.find(text, from);
    setHit(place);
    setNote(place == null ? `“${text}” is not in this log.` : `found at ${percent(place, log.size)}${place < from ? ", from the start again" : ""}`);
    if (place != null) { intent.current = place; draw(count => count + 1); }
  };
  const download = async () => {
    try { setShare(0); await reader.current.download(name, setShare); }
    catch (problem) { if (problem.name !== "AbortError") notify(problem.message, "", "bad"); }
    finally { setShare(null); }
  };
  const onKey = event => {
    const box = scroller.current, page = box.clientHeight - LINE;
    if (event.ctrlKey || event.altKey || event.metaKey || event.target !== box) return;
    if (event.key === "End") toEnd();
    else if (event.key === "Home") toStart();
    else if (event.key === "PageDown") box.scrollTop += page;
    else if (event.key === "PageUp") box.scrollTop -= page;
    else return;
    event.preventDefault();
  };

  const problem = reader.current?.problem;
  if (!isRead || !log) return html`<${Waiting} />`;
  if (problem && !log.lines.length) return html`<${Failure} problem=${problem} retry=${() => reader.current.jump(first)} />`;
  if (!log.size) return html`<p class="muted">${live ? "It has printed nothing yet." : "It printed nothing."}</p>`;
  const top = mode === "lines" ? Math.max(0, Math.floor(view.top / LINE) - 20) : 0;
  const last = mode === "lines" ? Math.min(log.lines.length, Math.ceil((view.top + view.height) / LINE) + 20) : log.lines.length;
  const isCut = at => at === 0 && log.start > 0;
  const content = mode === "raw" ? html`<pre class="text">${decoder.decode(log.bytes)}</pre>`
    : mode === "wrap" ? log.lines.map((line, at) => html`<${Line} key=${line.at} line=${line} words=${words} isHit=${line.at === hit} isCut=${isCut(at)} />`)
    : html`<div class="all" style=${{ height: `${log.lines.length * LINE}px` }}><div class="shown" style=${{ transform: `translateY(${top * LINE}px)` }}>${
      log.lines.slice(top, last).map((line, at) => html`<${Line} key=${line.at} line=${line} words=${words} isHit=${line.at === hit} isCut=${isCut(top + at)} />`)}</div></div>`;
  const below = log.size - log.end;
  return html`<section class="log" aria-label="Log"><form class="bar" onSubmit=${find}>
      <input type="search" name="find" data-filter placeholder="Find  /" aria-label="Find in the log" />
      <button type="submit">Next</button><span class="muted" role="status">${note}</span><span class="grow"></span>
      ${live && html`<button type="button" ...${keyed("follow")} aria-pressed=${following} onClick=${() => following ? follow(false) : toEnd()}>Follow</button>`}
      <button type="button" ...${keyed("wrap")} aria-pressed=${mode === "wrap"} onClick=${() => setMode(mode === "wrap" ? "lines" : "wrap")}>Wrap</button>
      <button type="button" ...${keyed("raw", "the text that was read, to select and copy")} aria-pressed=${mode === "raw"} onClick=${() => setMode(mode === "raw" ? "lines" : "raw")}>Raw</button>
      <button type="button" ...${keyed("save")} disabled=${share != null} onClick=${download}>${share == null ? "Download" : percent(share, 1)}</button></form>
    <${Failure} problem=${problem} />
    <div class=${`text ${mode}${!live && log.size < 2000 ? " short" : ""}`} ref=${scroller} tabindex="0" role="log" aria-live="off" aria-label="Output" onScroll=${onScroll} onKeyDown=${onKey}>${content}</div>
    <p class="place"><button type="button" class="quiet" ...${keyed("start")} onClick=${toStart}>Start</button>
      ${log.size > WINDOW && html`<input type="range" min="0" max="1000" aria-label="Place in the log" value=${dragged ?? Math.round(1000 * (anchor.current?.at || 0) / log.size)}
        onInput=${event => drag(event.target.value)} onBlur=${() => drag(null)} onChange=${event => jump(Math.floor(Number(event.target.value) / 1000 * log.size))} />`}
      ${isShort && html`<button type="button" class="quiet" ...${keyed("more")} onClick=${() => reading(() => reader.current.later())}>Read on</button>`}
      <button type="button" class="quiet" ...${keyed("end")} onClick=${toEnd}>End</button>
      <span class="muted">${size(log.size)}${log.bytes.length < log.size ? `, shown from ${percent(log.start, log.size)} to ${percent(log.end, log.size)}` : `, ${number(log.lines.length)} lines`}${
        below > 0 && live && !following ? `; ${size(below)} more below` : ""}${log.generation ? `; ${size(log.generation)} were cut out of its middle` : ""}</span></p></section>`;
};

const percent = (part, whole) => whole ? `${(100 * part / whole).toFixed(whole > 1e8 ? 1 : 0)} %` : "0 %";
