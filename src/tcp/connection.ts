/** What a connection is here: anything that says which two ends it has, as Deno's and Node's do. */

import { ClosedError } from "../base/errors.ts";
import type { ConnectionAddresses, ReportedEnd } from "../kernel/descriptor.ts";
import { parseIpAddress } from "../kernel/ip_address.ts";

/** One end of a connection; `Deno.NetAddr` fits. */
export interface ConnectionEnd {
  /** The IP address, such as `"192.0.2.7"` or `"2001:db8::7"`. */
  readonly hostname: string;
  /** The port. */
  readonly port: number;
}

/**
 * A connection by its two ends: `Deno.TcpConn` and `Deno.TlsConn`, dialed or accepted.
 * In a handler of `Deno.serve`, `{ localAddr: server.addr, remoteAddr: info.remoteAddr }`:
 * where this end is `0.0.0.0` or `::`, its port and the other end decide.
 */
export interface DenoConnection {
  /** This end. */
  readonly localAddr: ConnectionEnd;
  /** The other end. */
  readonly remoteAddr: ConnectionEnd;
}

/** A socket of `node:net`, `node:tls` or `node:http`. */
export interface NodeConnection {
  /** This end's IP address. */
  readonly localAddress?: string | undefined;
  /** This end's port. */
  readonly localPort?: number | undefined;
  /** The other end's IP address. */
  readonly remoteAddress?: string | undefined;
  /** The other end's port. */
  readonly remotePort?: number | undefined;
  /** Bytes that were written and wait in the process until the kernel takes them. */
  readonly writableLength?: number;
}

/** A TCP connection of this process. */
export type TcpConnection = DenoConnection | NodeConnection;

/**
 * The ends of a connection, as it reports them.
 *
 * @throws {ClosedError} It has none: it is not connected yet, or not any more.
 * @throws {TypeError} It is no TCP connection.
 */
export function endsOf(conn: TcpConnection): ConnectionAddresses {
  if ("localAddr" in conn) {
    return { localAddr: checked(conn.localAddr), remoteAddr: checked(conn.remoteAddr) };
  }
  if (!("remoteAddress" in conn)) throw notTcp();
  const { localAddress, localPort, remoteAddress, remotePort } = conn;
  if (
    localAddress === undefined || localPort === undefined || remoteAddress === undefined ||
    remotePort === undefined
  ) {
    throw new ClosedError(
      "The socket has no addresses: it is not connected yet, or it has been destroyed. " +
        'Wait for its "connect" event.',
    );
  }
  return {
    localAddr: checked({ hostname: localAddress, port: localPort }),
    remoteAddr: checked({ hostname: remoteAddress, port: remotePort }),
  };
}

/** Bytes that were written and that the kernel has not been given yet, as far as told. */
export function bytesNotHandedOver(conn: TcpConnection): number {
  return "writableLength" in conn ? conn.writableLength ?? 0 : 0;
}

/** @throws {TypeError} The ends have no IP addresses; names would not do. */
export function assertIpAddresses({ localAddr, remoteAddr }: ConnectionAddresses): void {
  for (const { hostname } of [localAddr, remoteAddr]) {
    if (parseIpAddress(hostname) === undefined) throw notTcp();
  }
}

/** What comes from JavaScript may be a Unix socket's, for example. */
function checked(end: ConnectionEnd): ReportedEnd {
  if (typeof end?.port !== "number" || typeof end.hostname !== "string") throw notTcp();
  return end;
}

function notTcp(): TypeError {
  return new TypeError(
    "This is no TCP connection: its two ends have to be IP addresses with ports, as Deno and " +
      "node:net report them for TCP and TLS.",
  );
}
