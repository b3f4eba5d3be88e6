/** Where a sender sends. */
export interface Remote {
  /** A name or a literal address; IPv6 without brackets. */
  readonly hostname: string;
  /** 1 to 65535. */
  readonly port: number;
}

/**
 * Reads a remote from a URL.
 *
 * @param url `tcp://host:port`; IPv6 literals in brackets.
 * @returns Its parts.
 * @throws {TypeError} It is not such a URL; the message says what is expected.
 *
 * @example
 * ```ts
 * import { parseRemote } from "@sendq/sendq";
 * import assert from "node:assert/strict";
 *
 * assert.deepEqual(parseRemote("tcp://[::1]:4000"), { hostname: "::1", port: 4000 });
 * ```
 */
export function parseRemote(url: string): Remote {
  const expected = `expected tcp://HOST:PORT, for example tcp://192.0.2.7:4000 or tcp://[::1]:4000`;
  const parsed = URL.parse(url);
  if (parsed === null) throw new TypeError(`"${url}" is not a URL; ${expected}`);
  if (parsed.protocol !== "tcp:") {
    throw new TypeError(
      `"${url}" has scheme ${parsed.protocol.slice(0, -1)}, sendq speaks tcp only; ${expected}`,
    );
  }
  const extras = parsed.username + parsed.password + parsed.search + parsed.hash +
    parsed.pathname.replace(/^\/$/, "");
  if (extras !== "") throw new TypeError(`"${url}" has more than host and port; ${expected}`);
  if (parsed.hostname === "") throw new TypeError(`"${url}" has no host; ${expected}`);
  const port = Number(parsed.port);
  if (parsed.port === "" || port === 0) {
    throw new TypeError(`"${url}" has no usable port; ${expected}`);
  }
  return { hostname: parsed.hostname.replace(/^\[(.*)\]$/, "$1"), port };
}

/** The URL of a remote. */
export function formatRemote({ hostname, port }: Remote): string {
  return `tcp://${hostname.includes(":") ? `[${hostname}]` : hostname}:${port}`;
}
