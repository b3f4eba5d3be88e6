/**
 * The kernel's socket behind a connection, without keeping it open.
 *
 * A duplicate of the descriptor would keep the connection open after its owner has closed it: no
 * FIN leaves before the last one is closed (kernel_facts, section 9). So only its number is kept,
 * with the kernel's own number for the socket (SO_COOKIE), which no other socket ever has.
 *
 * - A *reading* looks first and compares the cookie afterwards: if it is the right one then, it
 *   was before, for a number that was closed in between would be somebody else's for good.
 * - A *change* goes through a duplicate whose cookie was compared, and which is closed at once.
 *   Nothing else runs on this thread in between.
 *
 * Before Linux 4.12 both addresses stand for the cookie, which a connection loses when it dies:
 * there a dead one cannot be told from a closed one.
 */

import { ClosedError, KernelCallError } from "../base/errors.ts";
import { formatHostPort } from "../base/remote.ts";
import {
  type ConnectionAddresses,
  duplicate,
  findDescriptor,
  type FoundDescriptor,
  hasEnds,
  socketCookie,
} from "../kernel/descriptor.ts";
import { closeDescriptor } from "../kernel/libc.ts";
import { assertIpAddresses, endsOf, type TcpConnection } from "./connection.ts";

/** A socket of this process that somebody else owns. */
export class LocatedSocket {
  /** What its owner calls its ends. */
  readonly addresses: ConnectionAddresses;
  /** Its ends as the kernel names them, and the number of its descriptor. */
  readonly found: FoundDescriptor;
  readonly #cookie: bigint | undefined;

  /**
   * @param found Just looked up.
   * @param cookie `undefined`: this kernel has none.
   */
  constructor(addresses: ConnectionAddresses, found: FoundDescriptor, cookie: bigint | undefined) {
    this.addresses = addresses;
    this.found = found;
    this.#cookie = cookie;
  }

  /**
   * Reads from the socket.
   *
   * @param look Must change nothing: the descriptor may be somebody else's.
   * @returns `undefined`: the connection has been closed; nothing was read.
   * @throws {KernelCallError} The kernel refuses what `look` asks for.
   */
  read<T>(look: (fd: number) => T): { readonly value: T } | undefined {
    let value: T;
    try {
      value = look(this.found.fd);
    } catch (error) {
      if (!(error instanceof KernelCallError) || this.#isAt(this.found.fd)) throw error;
      return undefined;
    }
    return this.#isAt(this.found.fd) ? { value } : undefined;
  }

  /**
   * Changes the socket.
   *
   * @param act Is given a descriptor that is its own for as long as it runs.
   * @throws {ClosedError} The connection has been closed.
   * @throws {KernelCallError} The process has as many descriptors as it may.
   */
  change<T>(act: (fd: number) => T): T {
    if (!this.#isAt(this.found.fd)) throw closed(this.addresses);
    const fd = duplicate(this.found.fd, (copy) => this.#isAt(copy));
    try {
      return act(fd);
    } finally {
      closeDescriptor(fd);
    }
  }

  #isAt(fd: number): boolean {
    return this.#cookie === undefined ? hasEnds(fd, this.found) : socketCookie(fd) === this.#cookie;
  }
}

/** Holds neither connections nor anything of the kernel's. */
const located = new WeakMap<TcpConnection, LocatedSocket>();

/**
 * The socket of a connection.
 *
 * @throws {ClosedError} It has been closed, or had died before anybody asked for it here.
 * @throws {TypeError} It is no TCP connection.
 * @throws {Deno.errors.NotCapable} The C library is not granted; the message has the flag.
 */
export function locate(conn: TcpConnection): LocatedSocket {
  const addresses = endsOf(conn);
  const known = located.get(conn);
  // A socket of Node's may be connected again, and then has other ends. With the same
  // ones it is not looked for anew: a later connection might have been given them.
  if (known !== undefined && sameEnds(known.addresses, addresses)) return known;
  assertIpAddresses(addresses);
  const found = findDescriptor(addresses, 0);
  if (found === undefined) throw closed(addresses);
  const { localAddr, remoteAddr } = addresses;
  const copy = { localAddr: { ...localAddr }, remoteAddr: { ...remoteAddr } };
  const socket = new LocatedSocket(copy, found, socketCookie(found.fd));
  located.set(conn, socket);
  return socket;
}

/** @throws {ClosedError} The connection has been closed. */
export function readFrom<T>(conn: TcpConnection, look: (fd: number) => T): T {
  const socket = locate(conn);
  const reading = socket.read(look);
  if (reading === undefined) throw closed(socket.addresses);
  return reading.value;
}

/** The error that says so. */
export function closed({ localAddr, remoteAddr }: ConnectionAddresses): ClosedError {
  const [from, to] = [localAddr, remoteAddr].map(({ hostname, port }) =>
    formatHostPort(hostname, port)
  );
  return new ClosedError(
    `The connection from ${from} to ${to} is not open in this process: it was closed, or it had ` +
      `died before it was looked at here for the first time, and the kernel has forgotten its ` +
      `peer. Look at a connection once while it lives, and its last state can be read until it ` +
      `is closed.`,
  );
}

function sameEnds(a: ConnectionAddresses, b: ConnectionAddresses): boolean {
  return (["localAddr", "remoteAddr"] as const).every((end) =>
    a[end].port === b[end].port && a[end].hostname === b[end].hostname
  );
}
