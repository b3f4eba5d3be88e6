/**
 * The method CONNECT of HTTP: RFC 9110, 9.3.6, with RFC 7617 for credentials.
 *
 * @module
 */

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
  const { status, statusLine } = answer;
  if (status >= 200 && status < 300) return;
  // 401 is a server's and no proxy's; tinyproxy says it of a wrong password.
  if (status === 407 || status === 401) {
    throw new WireError(
      "PROXY_AUTH",
      credentials === undefined
        ? `it wants credentials: give it USER:PASSWORD; it said ${statusLine}`
        : `it does not take the user and password; it said ${statusLine}`,
    );
  }
  throw new WireError("PROXY_REFUSED", `it did not connect to ${authority}: it said ${statusLine}`);
}

function basic({ username, password }: ProxyCredentials): string {
  return btoa(latin1(new TextEncoder().encode(`${username}:${password}`)));
}

interface Head {
  readonly status: number;
  /** For messages. */
  readonly statusLine: string;
}

/** Byte by byte: what follows the empty line is the server's. */
async function readHead(handshake: ProxyHandshake): Promise<Head> {
  const bytes: number[] = [];
  let lineBytes = 0;
  let firstLine: Uint8Array | undefined;
  for (;;) {
    const [byte = 0] = await handshake.read(1);
    bytes.push(byte);
    if (byte !== LINE_FEED) lineBytes += byte === 13 ? 0 : 1;
    else if (firstLine === undefined) {
      firstLine = Uint8Array.from(bytes);
      assertHttp(firstLine);
      lineBytes = 0;
    } else if (lineBytes === 0) break;
    else lineBytes = 0;
    if (bytes.length === 5 && latin1(Uint8Array.from(bytes)) !== "HTTP/") {
      throw noHttp(Uint8Array.from(bytes));
    }
    if (bytes.length > MAX_HEAD_BYTES) {
      throw new WireError(
        "PROXY_PROTOCOL",
        `its answer has no end within ${MAX_HEAD_BYTES} bytes; it begins with ` +
          quote(Uint8Array.from(bytes), MAX_SHOWN_BYTES),
      );
    }
  }
  const line = latin1(firstLine).replace(/\r?\n$/, "");
  return {
    status: Number(STATUS_LINE.exec(line)?.[1]),
    statusLine: quote(firstLine.subarray(0, line.length), MAX_SHOWN_BYTES),
  };
}

const STATUS_LINE = /^HTTP\/1\.[01] (\d{3})(?: |$)/;

function assertHttp(line: Uint8Array): void {
  if (!STATUS_LINE.test(latin1(line).replace(/\r?\n$/, ""))) throw noHttp(line);
}

function noHttp(begin: Uint8Array): WireError {
  return new WireError(
    "PROXY_PROTOCOL",
    `it does not speak HTTP: its answer begins with ${quote(begin, MAX_SHOWN_BYTES)}`,
  );
}
