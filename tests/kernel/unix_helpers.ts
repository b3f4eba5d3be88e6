/** Unix sockets for tests: a server of which every byte that it reads is known. */

import { AF_UNIX } from "../../src/kernel/constants.ts";
import { openDescriptors, socketCookie } from "../../src/kernel/descriptor.ts";
import { getSocketInt, libc } from "../../src/kernel/libc.ts";
import { unixDialer } from "../../src/kernel/unix_dialer.ts";
import type { UnixWire } from "../../src/kernel/unix_wire.ts";
import { ManualClock } from "../support/manual_clock.ts";
import { unixSocket } from "../support/unix_sockets.ts";
import { patience } from "./helpers.ts";

const SOL_SOCKET = 1;
const SO_DOMAIN = 39;
const MSG_PEEK = 2;
const MSG_DONTWAIT = 0x40;

/** The Unix sockets of this process, each with the number that no other one ever has. */
function unixSockets(): Map<bigint, number> {
  const found = new Map<bigint, number>();
  for (const fd of openDescriptors()) {
    const cookie = socketCookie(fd);
    if (cookie !== undefined && getSocketInt(fd, SOL_SOCKET, SO_DOMAIN) === AF_UNIX) {
      found.set(cookie, fd);
    }
  }
  return found;
}

/** A connection as its server has it, which reads at once or not at all. */
export class UnixServed implements Disposable {
  readonly conn: Deno.UnixConn;
  readonly #fd: number;
  #open = true;
  /** Read so far. */
  readBytes = 0;

  constructor(conn: Deno.UnixConn, fd: number) {
    this.conn = conn;
    this.#fd = fd;
  }

  /** Reads at most so many bytes, and what there is. */
  read(bytes: number): number {
    const count = this.#recv(bytes, MSG_DONTWAIT);
    this.readBytes += count;
    return count;
  }

  /** Reads all that there is. */
  readAll(): void {
    while (this.read(65_536) > 0);
  }

  /** Looks at what there is, and leaves it. */
  peek(bytes: number): number {
    return this.#recv(bytes, MSG_DONTWAIT | MSG_PEEK);
  }

  #recv(bytes: number, flags: number): number {
    const count = Number(libc().recv(this.#fd, new Uint8Array(bytes), BigInt(bytes), flags));
    return Math.max(0, count); // -1: there is nothing.
  }

  /** As a program ends, with what it has not read. */
  close(): void {
    if (this.#open) this.conn.close();
    this.#open = false;
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** Both ends of a connection. */
export interface UnixPair extends Disposable {
  readonly wire: UnixWire;
  readonly served: UnixServed;
  readonly clock: ManualClock;
}

/** Connects to a server of the test's own. */
export async function unixPair(): Promise<UnixPair> {
  const path = unixSocket();
  using listener = Deno.listen({ transport: "unix", path });
  const clock = new ManualClock();
  const wire = await unixDialer({ path, clock }).dial(patience());
  const before = unixSockets();
  const conn = await listener.accept();
  const fresh = [...unixSockets()].filter(([cookie]) => !before.has(cookie));
  const [, fd] = fresh[0] ?? [];
  if (fd === undefined || fresh.length > 1) throw new Error("which descriptor is the server's?");
  const served = new UnixServed(conn, fd);
  return {
    wire,
    served,
    clock,
    [Symbol.dispose]() {
      wire.abort();
      served.close();
    },
  };
}
