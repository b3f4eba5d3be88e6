/**
 * Asks for a name, beside `Deno.connect`, which does so too and does not say when
 * it is done: without that a dead nameserver looks like a dead server.
 *
 * `node:dns` would do, but it wants `--allow-net` for every port of the host. The
 * C library's getaddrinfo asks what Deno's own look-up asks, with the one right
 * that is granted anyway.
 */

import { cString, libc } from "./libc.ts";

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
