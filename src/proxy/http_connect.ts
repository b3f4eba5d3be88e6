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
  let answer = await readHead(handshake);
  // What is 1xx is not the answer yet (RFC 9110, 15.2).
  while (answer.status >= 100 && answer.status < 200) answer = await readHead(handshake);
  const { status, statusLine, asks } = answer;
  if (status >= 200 && status < 300) return;
  // 401 is a server's and no proxy's; tinyproxy says it of a wrong password.
  if (status === 407 || status === 401) {
    throw new WireError(
      "PROXY_AUTH",
      asks !== "" && !/\bbasic\b/i.test(asks)
        ? `it takes no USER:PASSWORD (Basic), which alone is spoken here; it wants ${shown(asks)}`
        : credentials === undefined
        ? `it wants credentials: give it USER:PASSWORD; it said ${statusLine}`
        : `it does not take the user and password; it said ${statusLine}`,
    );
  }
  throw new WireError("PROXY_REFUSED", `it did not connect to ${authority}: it said ${statusLine}`);
}

function basic({ username, password }: ProxyCredentials): string {
  return btoa(latin1(new TextEncoder().encode(`${username}:${password}`)));
}

const STATUS_LINE = /^HTTP\/1\.[01] (\d{3})(?: |$)/;

interface Head {
  readonly status: number;
  /** For messages. */
  readonly statusLine: string;
  /** The ways in which it takes credentials (RFC 9110, 11.7.1). */
  readonly asks: string;
}

/** Byte by byte: what follows the empty line is the server's. */
async function readHead(handshake: ProxyHandshake): Promise<Head> {
  const bytes = new Uint8Array(MAX_HEAD_BYTES);
  let length = 0;
  let lineStart = 0;
  let status: number | undefined;
  let statusLine = "";
  let asks = "";
  while (length < bytes.length) {
    const [byte = 0] = await handshake.read(1);
    bytes[length++] = byte;
    const begin = bytes.subarray(0, length);
    if (length === 5 && latin1(begin) !== "HTTP/") throw noHttp(begin);
    if (byte !== LINE_FEED) continue;
    const line = latin1(bytes.subarray(lineStart, length)).replace(/\r?\n$/, "");
    lineStart = length;
    if (status === undefined) {
      const [, digits] = STATUS_LINE.exec(line) ?? [];
      if (digits === undefined) throw noHttp(begin);
      status = Number(digits);
      statusLine = shown(line);
    } else if (/^\r*$/.test(line)) return { status, statusLine, asks };
    else {
      const [, way] = /^proxy-authenticate:\s*(.*)/i.exec(line) ?? [];
      if (way !== undefined) asks += asks === "" ? way : `, ${way}`;
    }
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
