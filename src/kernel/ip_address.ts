/**
 * IP addresses as text, as 16 bytes, and as `struct sockaddr`. IPv4 is kept in
 * its v4-mapped form, so that an address has one spelling whichever kind of
 * socket it was read from.
 */

import { AF_INET, AF_INET6 } from "./constants.ts";

/** Room for `struct sockaddr_in6`, the longest that TCP has. */
export const SOCKADDR_BYTES = 28;

export interface Endpoint {
  /** 16 bytes; IPv4 as `::ffff:a.b.c.d`. */
  readonly address: Uint8Array;
  readonly port: number;
  /** The interface index of a link-local address; 0: none. */
  readonly scopeId: number;
}

/**
 * Reads an address as text.
 *
 * @returns 16 bytes, or `undefined` when the text is no address.
 */
export function parseIpAddress(text: string): Uint8Array | undefined {
  if (!text.includes(":")) {
    const v4 = parseIpv4(text);
    return v4 === undefined ? undefined : new Uint8Array([...MAPPED_PREFIX, ...v4]);
  }
  const halves = text.split("%", 1)[0]?.split("::") ?? [];
  if (halves.length > 2) return undefined;
  // Only the last group of all may be written as IPv4.
  const head = parseGroups(halves[0] ?? "", halves.length === 1);
  const tail = parseGroups(halves[1] ?? "", true);
  if (head === undefined || tail === undefined) return undefined;
  const missing = 16 - head.length - tail.length;
  if (halves.length === 1 ? missing !== 0 : missing < 2) return undefined;
  return new Uint8Array([...head, ...new Array<number>(missing).fill(0), ...tail]);
}

const MAPPED_PREFIX: readonly number[] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];

/** Whether an address is IPv4, given as it is or v4-mapped. */
export function isIpv4(address: Uint8Array): boolean {
  return MAPPED_PREFIX.every((byte, index) => address[index] === byte);
}

function parseIpv4(text: string): number[] | undefined {
  const parts = text.split(".");
  if (parts.length !== 4 || !parts.every((part) => /^\d{1,3}$/.test(part))) return undefined;
  const bytes = parts.map(Number);
  return bytes.every((byte) => byte <= 255) ? bytes : undefined;
}

function parseGroups(text: string, mayEndInIpv4: boolean): number[] | undefined {
  if (text === "") return [];
  const bytes: number[] = [];
  const groups = text.split(":");
  for (const [index, group] of groups.entries()) {
    if (mayEndInIpv4 && group.includes(".") && index === groups.length - 1) {
      const v4 = parseIpv4(group);
      if (v4 === undefined) return undefined;
      bytes.push(...v4);
    } else {
      if (!/^[0-9a-f]{1,4}$/i.test(group)) return undefined;
      const value = parseInt(group, 16);
      bytes.push(value >> 8, value & 0xff);
    }
  }
  return bytes;
}

/**
 * Writes an address as text.
 *
 * @param address 4 bytes, or 16.
 */
export function formatIpAddress(address: Uint8Array): string {
  if (address.length === 4) return address.join(".");
  const groups = Array.from(
    { length: 8 },
    (_, i) => ((address[2 * i] ?? 0) << 8 | (address[2 * i + 1] ?? 0)).toString(16),
  );
  // URL knows how to shorten it (RFC 5952).
  return new URL(`tcp://[${groups.join(":")}]`).hostname.slice(1, -1);
}

/** Whether two ends are one. Deno does not report the scope, so it is not compared. */
export function sameEndpoint(a: Endpoint, b: Endpoint): boolean {
  return a.port === b.port && a.address.every((byte, index) => byte === b.address[index]);
}

/**
 * Decodes what getsockname or getpeername wrote.
 *
 * @returns `undefined`: neither IPv4 nor IPv6, or cut short.
 */
export function decodeSockaddr(bytes: Uint8Array, length: number): Endpoint | undefined {
  if (length < 16 || bytes.byteLength < length) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, length);
  const family = view.getUint16(0, true);
  const port = view.getUint16(2, false);
  if (family === AF_INET) {
    const address = new Uint8Array([...MAPPED_PREFIX, ...bytes.subarray(4, 8)]);
    return { address, port, scopeId: 0 };
  }
  if (family === AF_INET6 && length >= SOCKADDR_BYTES) {
    return { address: bytes.slice(8, 24), port, scopeId: view.getUint32(24, true) };
  }
  return undefined;
}

/** Encodes `struct sockaddr_in` (16 bytes) or `sockaddr_in6` (28 bytes). */
export function encodeSockaddr({ address, port, scopeId }: Endpoint): Uint8Array {
  const v4 = isIpv4(address);
  const bytes = new Uint8Array(v4 ? 16 : SOCKADDR_BYTES);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, v4 ? AF_INET : AF_INET6, true);
  view.setUint16(2, port, false);
  if (v4) {
    bytes.set(address.subarray(12), 4);
  } else {
    bytes.set(address, 8);
    view.setUint32(24, scopeId, true);
  }
  return bytes;
}

/** Whether nobody outside this machine can reach the address. */
export function isLoopback(hostname: string): boolean {
  if (hostname === "localhost") return true;
  const address = parseIpAddress(hostname);
  if (address === undefined) return false;
  return isIpv4(address)
    ? address[12] === 127
    : address.every((byte, at) => byte === (at === 15 ? 1 : 0));
}
