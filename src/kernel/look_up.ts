/**
 * Asks for a name, beside `Deno.connect`, which does so too and does not say when
 * it is done: without that a dead nameserver looks like a dead server.
 *
 * `node:dns` would do, but it wants `--allow-net` for every port of the host. The
 * C library's getaddrinfo asks what Deno's own look-up asks, with the one right
 * that is granted anyway.
 */

import { onAbort } from "../base/waits.ts";
import { cString, libc } from "./libc.ts";

/** Each takes two threads, Deno's look-up and ours: some stay free. */
const AT_ONCE = 12;
/** Of these names of which the last look-up came to nothing, or does not end. */
const DOUBTFUL_AT_ONCE = 8;
/** More are not remembered. */
const MAX_FAILED = 1000;
/** `sizeof(struct addrinfo)`: all zero, it asks for every kind of address. */
const ADDRINFO_BYTES = 48n;
const POINTER_BYTES = 8n;

/**
 * Looks a name up, in a thread of Deno's. Cannot be cancelled: it ends when the
 * resolver gives up (resolv.conf(5): by default after 10 s a nameserver).
 *
 * @returns Whether the name has an address.
 */
export async function hasAddress(hostname: string): Promise<boolean> {
  // The thread works on memory of the C library, which stays where it is even if
  // this isolate ends before the resolver does.
  const name = libc().strdup(cString(hostname));
  const block = libc().calloc(1n, ADDRINFO_BYTES + POINTER_BYTES);
  if (name === 0n || block === 0n) {
    libc().free(name);
    libc().free(block);
    return false;
  }
  const result = block + ADDRINFO_BYTES;
  try {
    if (await libc().getaddrinfo(name, 0n, block, result) !== 0) return false;
    const list = new BigUint64Array(1);
    libc().memcpy(list, result, POINTER_BYTES);
    libc().freeaddrinfo(list[0] ?? 0n);
    return true;
  } finally {
    libc().free(name);
    libc().free(block);
  }
}

interface Turn {
  readonly hostname: string;
  readonly begin: () => void;
}

/**
 * Whose turn it is to look a name up. Each look-up keeps threads of the runtime for as long as the
 * name servers say nothing, also one that nobody waits for any more, and the runtime has 32 for
 * everything (deno_facts): syncs of the disk, files, and the look-ups of everybody else.
 */
export class LookUpTurns {
  readonly #waiting = new Set<Turn>();
  readonly #running = new Set<Turn>();
  readonly #failed = new Set<string>();

  /**
   * Waits until a name may be looked up: in order, but for doubtful names, which let others pass.
   *
   * @returns To be called once it has been looked up, with what came of it.
   * @throws The signal's reason.
   */
  async next(hostname: string, signal: AbortSignal): Promise<(found: boolean) => void> {
    signal.throwIfAborted();
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const turn = { hostname, begin: resolve };
    this.#waiting.add(turn);
    const forget = onAbort(signal, () => {
      if (this.#waiting.delete(turn)) reject(signal.reason);
    });
    this.#beginThose();
    try {
      await promise;
    } finally {
      forget();
    }
    return (found) => {
      if (!this.#running.delete(turn)) return;
      if (this.#failed.size >= MAX_FAILED) this.#failed.clear();
      if (found) this.#failed.delete(hostname);
      else this.#failed.add(hostname);
      this.#beginThose();
    };
  }

  #beginThose(): void {
    const isDoubtful = ({ hostname }: Turn) =>
      this.#failed.has(hostname) ||
      [...this.#running].some((running) => running.hostname === hostname);
    const inOrder = [...this.#waiting];
    for (const turn of inOrder) if (!isDoubtful(turn)) this.#beginOne(turn, AT_ONCE);
    for (const turn of inOrder) if (isDoubtful(turn)) this.#beginOne(turn, DOUBTFUL_AT_ONCE);
  }

  #beginOne(turn: Turn, atOnce: number): void {
    if (this.#running.size >= atOnce || !this.#waiting.delete(turn)) return;
    this.#running.add(turn);
    turn.begin();
  }
}

/** Those of this process. */
export const lookUpTurns: LookUpTurns = new LookUpTurns();
