/** Disk space that is kept without being written (fallocate(2)). The runtime has no call for it. */

import type { Allocate } from "../base/ports.ts";
import { closeDescriptor, cString, libc } from "./libc.ts";

/** The same on x86_64 and aarch64, but for O_NOFOLLOW. */
const O_WRONLY = 1;
const O_CLOEXEC = 0o2000000;
const O_NOFOLLOW = Deno.build.arch === "aarch64" ? 0o100000 : 0o400000;

/**
 * Keeps disk space where the filesystem can: ext4, XFS, Btrfs and tmpfs, not ZFS.
 *
 * @returns `undefined`: this process may not call the C library.
 */
export function allocator(): Allocate | undefined {
  try {
    libc();
  } catch {
    return undefined;
  }
  return allocate;
}

/** Not posix_fallocate: where the filesystem cannot, that writes zeros, which may take no space. */
function allocate(path: string, fromByte: number, bytes: number): boolean {
  const fd = libc().open(cString(path), O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
  if (fd < 0) return false;
  try {
    return libc().fallocate(fd, 0, BigInt(fromByte), BigInt(bytes)) === 0;
  } finally {
    closeDescriptor(fd);
  }
}
