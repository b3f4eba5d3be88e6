/** The method CONNECT of HTTP: RFC 9110, 9.3.6, with RFC 7617 for credentials. */

import { WireError } from "../base/errors.ts";
import { formatHostPort } from "../base/remote.ts";
import type { ProxyCredentials } from "../base/via.ts";
import { latin1, quote } from "../session/pattern.ts";
import type { ProxyHandshake, ProxyTarget } from "./handshake.ts";

/** A head that is longer is none of a proxy's. */
const MAX_HEAD_BYTES = 16 * 1024;
const MAX_SHOWN_BYTES = 100;
const LINE_FEED = 10;

/**
 * Speaks HTTP to a proxy; see `Speak`.
 *
 * @throws {WireError} It refuses, or does not speak HTTP.
 */
export async function speakHttpConnect(
  handshake: ProxyHandshake,
  { hostname, port }: ProxyTarget,
  credentials: ProxyCredentials | undefined,
): Promise<void> {
  const authority = formatHostPort(hostname, port);
  const lines = [
    `CONNECT ${authority} HTTP/1.1`,
    `Host: ${authority}`,
    ...(credentials === undefined ? [] : [`Proxy-Authorization: Basic ${basic(credentials)}`]),
    "",
    "",
  ];
  await handshake.write(new TextEncoder().encode(lines.join("\r\n")));
  let statusLine: string, status: number, fields: readonly string[];
  // What is 1xx is not the answer yet (RFC 9110, 15.2).
  do {
    [statusLine = "", ...fields] = await readHead(handshake);
    status = Number(STATUS_LINE.exec(statusLine)?.[1]);
  } while (status >= 100 && status < 200);
  if (status >= 200 && status < 300) return;
  const said = `it said ${shown(statusLine)}`;
  // 401 is a server's and no proxy's; tinyproxy says it of a wrong password.
  if (status === 407 || status === 401) {
    const ways = fields.flatMap((field) => /^proxy-authenticate:\s*(.*)/i.exec(field)?.[1] ?? []);
    const asks = ways.join(", ");
    throw new WireError(
      "PROXY_AUTH",
      asks !== "" && !/\bbasic\b/i.test(asks)
        ? `it takes no USER:PASSWORD (Basic), which alone is spoken here; it wants ${shown(asks)}`
        : credentials === undefined
        ? `it wants credentials: give it USER:PASSWORD; ${said}`
        : `it does not take the user and password; ${said}`,
    );
  }
  throw new WireError("PROXY_REFUSED", `it did not connect to ${authority}: ${said}`);
}

function basic({ username, password }: ProxyCredentials): string {
  return btoa(latin1(new TextEncoder().encode(`${username}:${password}`)));
}

const STATUS_LINE = /^HTTP\/1\.[01] (\d{3})(?: |$)/;

/** The lines of an answer, byte by byte: what follows the empty one is the server's. */
async function readHead(handshake: ProxyHandshake): Promise<string[]> {
  const bytes = new Uint8Array(MAX_HEAD_BYTES);
  const lines: string[] = [];
  let length = 0;
  let lineStart = 0;
  while (length < bytes.length) {
    const [byte = 0] = await handshake.read(1);
    bytes[length++] = byte;
    const begin = bytes.subarray(0, length);
    if (length === 5 && latin1(begin) !== "HTTP/") throw noHttp(begin);
    if (byte !== LINE_FEED) continue;
    const line = latin1(bytes.subarray(lineStart, length)).replace(/\r*\n$/, "");
    lineStart = length;
    if (lines.length === 0 && !STATUS_LINE.test(line)) throw noHttp(begin);
    if (line === "") return lines;
    lines.push(line);
  }
  throw new WireError(
    "PROXY_PROTOCOL",
    `its answer has no end within ${MAX_HEAD_BYTES} bytes; it begins with ` +
      quote(bytes, MAX_SHOWN_BYTES),
  );
}

function shown(line: string): string {
  return quote(Uint8Array.from(line, (c) => c.charCodeAt(0)), MAX_SHOWN_BYTES);
}

function noHttp(begin: Uint8Array): WireError {
  return new WireError(
    "PROXY_PROTOCOL",
    `it does not speak HTTP: its answer begins with ${quote(begin, MAX_SHOWN_BYTES)}`,
  );
}
