// Calls of the fleet API, with the token of whoever is signed in.

const KEPT = "token";

/** What was refused, in the console's words. */
export class Refused extends Error {
  /** @param {number} status 0: nothing answered @param {string} sentence @param {any} [body] */
  constructor(status, sentence, body = {}) {
    super(sentence);
    this.status = status;
    this.body = body;
  }
}

export const token = {
  /** Of this tab alone; gone with it. @returns {string|null} */
  get: () => sessionStorage.getItem(KEPT),
  set: (value) => sessionStorage.setItem(KEPT, value),
  forget: () => sessionStorage.removeItem(KEPT),
};

/** @param {string} method @param {string} path @param {any} [body] @param {AbortSignal} [signal]
 * @returns {Promise<Response>} raises Refused */
export async function ask(method, path, body, signal) {
  const headers = {};
  if (token.get()) headers.Authorization = `Bearer ${token.get()}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let answer;
  try {
    answer = await fetch(path, {
      method, headers, signal, cache: "no-store", redirect: "error",
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Refused(0, "The console does not answer; is it reachable from here?");
  }
  if (answer.ok) return answer;
  const told = await answer.json().catch(() => ({}));
  throw new Refused(answer.status, told.error ?? `The console answered ${answer.status}.`, told);
}

/** The same, read as JSON. */
export async function call(method, path, body, signal) {
  return (await ask(method, path, body, signal)).json();
}

/** A path with a query, its values escaped. */
export function path(base, query = {}) {
  const given = Object.entries(query).filter(([, value]) => value != null && value !== "");
  return given.length ? `${base}?${new URLSearchParams(given)}` : base;
}
