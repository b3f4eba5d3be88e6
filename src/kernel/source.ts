/** The address of this host that a connection comes from, and its port. */

import { OptionError } from "../base/errors.ts";
import { normalizeHostname } from "../base/remote.ts";
import { isIpv4, parseIpAddress } from "./ip_address.ts";

/** One end of a connection: ours. */
export interface Source {
  /** An address, IPv6 without brackets. */
  readonly hostname: string;
  /** 0: any that is free. */
  readonly port: number;
  /** Only a server with an address of the same kind can be reached from it. */
  readonly family: 4 | 6;
}

/**
 * Reads where connections come from.
 *
 * @param text `192.0.2.1`, `192.0.2.1:5000`, `2001:db8::1`, `[2001:db8::1]:5000`.
 * @throws {OptionError} It is none.
 */
export function parseSource(text: string): Source {
  const [, bracketed, plain, given] =
    /^(?:\[([^\]]*)\]|([^[\]:]*|[^[\]]*:[^[\]]*:[^[\]]*))(?::(\d{1,5}))?$/.exec(text) ?? [];
  const written = bracketed ?? plain ?? "";
  const port = Number(given ?? 0);
  const isPort = given === undefined || (port >= 1 && port <= 65_535);
  const address = parseIpAddress(written);
  const isForeign = written.includes("%") && address !== undefined && !isLinkLocal(address);
  if (address === undefined || !isPort || isForeign) {
    throw new OptionError(
      "source",
      text,
      "must be an address of this host, perhaps with a port: 192.0.2.1, 192.0.2.1:5000, " +
        "2001:db8::1, [2001:db8::1]:5000",
    );
  }
  if (isLinkLocal(address)) {
    throw new OptionError(
      "source",
      text,
      "must be no link-local address: Deno's sockets cannot be bound to one. The zone of the " +
        "server's address says over which interface to go, and so does socket.bindToDevice",
    );
  }
  return { hostname: normalizeHostname(written), port, family: isIpv4(address) ? 4 : 6 };
}

/** fe80::/10 */
function isLinkLocal(address: Uint8Array): boolean {
  return address[0] === 0xfe && ((address[1] ?? 0) & 0xc0) === 0x80;
}

export function isAddress(hostname: string): boolean {
  return parseIpAddress(hostname) !== undefined;
}

/**
 * Whether a server can be reached from a source: a name may have addresses of both kinds, and
 * `node:net`, which binds sockets, connects to an address without its zone.
 */
export function mayReach({ family }: Source, hostname: string): boolean {
  const address = parseIpAddress(hostname);
  return address === undefined ||
    (isIpv4(address) === (family === 4) && !hostname.includes("%"));
}
