// Server-sent events by fetch, as EventSource cannot send a token; reconnects with growing pauses.
import { ask, Refused } from "./api.js";

const SILENCE = 30000, LONGEST = 30000;

/** Follow the fleet until stopped.
 * @param {{begin(): void, event(name: string, data: any): void, state(told: {state: "live"|"connecting"|"lost",
 *   again?: number, why?: string}): void, refused(error: Refused): void}} hears
 * `refused` is told what trying again would not mend */
export function follow(hears) {
  let failures = 0, timer = 0, aborter = new AbortController(), stopped = false;

  async function run() {
    hears.state({ state: "connecting" });
    aborter = new AbortController();
    let why = "";
    let silence = 0;
    const heard = () => {
      clearTimeout(silence);
      silence = setTimeout(() => aborter.abort(), SILENCE);
    };
    try {
      heard();
      const answer = await ask("GET", "/api/events", undefined, aborter.signal);
      hears.begin();
      for await (const [name, data] of events(answer.body, heard)) {
        hears.event(name, data);
        if (name === "synced") {
          failures = 0;
          hears.state({ state: "live" });
        }
      }
    } catch (error) {
      if (stopped) return;
      if (error instanceof Refused && error.status >= 400 && error.status < 500) {
        hears.refused(error);
        return;
      }
      why = error instanceof Refused ? error.message : "";
    } finally {
      clearTimeout(silence);
    }
    if (stopped) return;
    const pause = Math.min(LONGEST, 1000 * 2 ** failures) * (0.75 + Math.random() / 2);
    failures += 1;
    hears.state({ state: "lost", again: Date.now() + pause, why });
    timer = setTimeout(run, pause);
  }

  run();
  return {
    /** Do not wait any longer. */
    again() {
      clearTimeout(timer);
      if (!stopped) run();
    },
    stop() {
      stopped = true;
      clearTimeout(timer);
      aborter.abort();
    },
  };
}

/** @param {ReadableStream<Uint8Array>} body @param {() => void} heard of any bytes */
async function* events(body, heard) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      heard();
      const blocks = (rest + value).split("\n\n");
      rest = blocks.pop() ?? "";
      for (const block of blocks) {
        const told = parsed(block);
        if (told) yield told;
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

/** Name and data of one event; null of a remark. @param {string} block */
export function parsed(block) {
  let name = "message", data = "";
  for (const line of block.split("\n")) {
    if (line.startsWith("event: ")) name = line.slice(7);
    else if (line.startsWith("data: ")) data += line.slice(6);
  }
  if (!data) return null;
  try {
    return [name, JSON.parse(data)];
  } catch {
    return null;
  }
}
