/** Unix sockets of others: a datagram to one, as `sd_notify(3)` sends it, and whether one is used. */

import { AF_UNIX, SOCK_CLOEXEC, SOCK_DGRAM, SOCK_NONBLOCK } from "./constants.ts";
import { closeDescriptor, libc } from "./libc.ts";
import { toWireError } from "./wire_error.ts";

/** `struct sockaddr_un`: the family, then 108 bytes of path. */
const FAMILY_BYTES = 2;
const PATH_BYTES = 108;
const MSG_NOSIGNAL = 0x4000;

/**
 * Sends one datagram to a Unix socket. Says whether the kernel took it: it does not when nobody
 * listens there, or when the listener's queue is full.
 *
 * @param path The socket's path; an `@` in front: an abstract name.
 */
export function sendUnixDatagram(path: string, message: string): boolean {
  const name = new TextEncoder().encode(path);
  if (name.length === 0 || name.length >= PATH_BYTES) return false;
  // An abstract name begins with a zero byte and is not terminated by one.
  const abstract = path.startsWith("@");
  if (abstract) name[0] = 0;
  const address = new Uint8Array(FAMILY_BYTES + name.length + (abstract ? 0 : 1));
  new DataView(address.buffer).setUint16(0, AF_UNIX, true);
  address.set(name, FAMILY_BYTES);

  const fd = libc().socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return false;
  try {
    if (libc().connect(fd, address, address.byteLength) !== 0) return false;
    const bytes = new TextEncoder().encode(message);
    return Number(libc().send(fd, bytes, BigInt(bytes.length), MSG_NOSIGNAL)) === bytes.length;
  } finally {
    closeDescriptor(fd);
  }
}

/** Nobody listens; there is nothing at the path; who listened has ended meanwhile. */
const NOT_ANSWERED = [
  Deno.errors.ConnectionRefused,
  Deno.errors.NotFound,
  Deno.errors.ConnectionReset,
];

/** Whether somebody listens on a Unix socket. */
export async function isAnswered(path: string): Promise<boolean> {
  try {
    (await Deno.connect({ transport: "unix", path })).close();
    return true;
  } catch (error) {
    if (NOT_ANSWERED.some((kind) => error instanceof kind)) return false;
    // Whose backlog is full, or whose socket takes datagrams, is there all the same.
    if (["EAGAIN", "EPROTOTYPE"].includes(toWireError(error).code)) return true;
    throw error;
  }
}
