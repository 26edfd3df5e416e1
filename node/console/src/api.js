// Talks to the admin API of the node that served this page.

const tokenKey = "tern-admin-token";

export class Denied extends Error {}

export function setToken(token) {
  if (token) sessionStorage.setItem(tokenKey, token);
  else sessionStorage.removeItem(tokenKey);
}

// get fetches JSON; it throws Denied where a token is needed, and Error with a sentence for people otherwise.
export async function get(path) {
  const token = sessionStorage.getItem(tokenKey);
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  let answer;
  try {
    answer = await fetch(path, { headers, signal: AbortSignal.timeout(10_000) });
  } catch {
    throw new Error("The node does not answer. What is shown is what it said last.");
  }
  if (answer.status === 401 || answer.status === 403) throw new Denied("This node asks for an admin token.");
  if (!answer.ok) throw new Error(`The node answered ${answer.status} ${answer.statusText}.`);
  return answer.json();
}

// rate of a counter between two looks, per second; null if it cannot be told.
export function rate(now, before, seconds) {
  return before === undefined || seconds <= 0 || now < before ? null : (now - before) / seconds;
}

export function number(v, digits = 0) {
  return v === null || v === undefined ? "–" : v.toLocaleString("en", { maximumFractionDigits: digits });
}

export function percent(part, whole) {
  if (!whole) return "–";
  const p = (100 * part) / whole;
  return p === 0 ? "0 %" : p < 0.01 ? "<0.01 %" : `${p.toFixed(2)} %`;
}

export function duration(seconds) {
  if (seconds < 60) return `${Math.round(seconds)} s`;
  if (seconds < 3600) return `${Math.round(seconds / 60)} min`;
  if (seconds < 48 * 3600) return `${(seconds / 3600).toFixed(1)} h`;
  return `${Math.round(seconds / 86400)} days`;
}
