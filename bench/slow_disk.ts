/**
 * A disk on which each sync takes longer: a library in front of libc, built with
 * gcc(1) in a temporary directory. strace(1) can do the same, but takes a share of
 * the CPU of its own at thousands of syncs a second.
 *
 * @module
 */

import { type Spawn, spawnHere } from "../lab/child.ts";

/** By how much each sync is delayed: a spinning disk, or a network volume at its best. */
export const SLOW_SYNC_MS = 2;

const SOURCE = `
#define _GNU_SOURCE
#include <dlfcn.h>
#include <time.h>
#include <unistd.h>

static int slowly(const char *name, int fd) {
  int (*sync)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
  struct timespec delay = {0, ${SLOW_SYNC_MS}000000};
  int result = sync(fd);
  nanosleep(&delay, 0);
  return result;
}

int fsync(int fd) { return slowly("fsync", fd); }
int fdatasync(int fd) { return slowly("fdatasync", fd); }
int syncfs(int fd) { return slowly("syncfs", fd); }
`;

/** Starts programs for which each sync takes {@linkcode SLOW_SYNC_MS} longer. */
export class SlowDisk implements Disposable {
  readonly #directory: string;
  readonly spawn: Spawn;

  private constructor(directory: string) {
    this.#directory = directory;
    this.spawn = (command, args, options) =>
      spawnHere(command, args, { ...options, env: { LD_PRELOAD: `${directory}/slow.so` } });
  }

  /** Builds the library; says why it cannot, if it cannot. */
  static async build(): Promise<SlowDisk | string> {
    const directory = Deno.makeTempDirSync({ prefix: "sendq-bench-" });
    const fail = (reason: string) => {
      Deno.removeSync(directory, { recursive: true });
      return reason;
    };
    Deno.writeTextFileSync(`${directory}/slow.c`, SOURCE);
    try {
      const { success, stderr } = await new Deno.Command("gcc", {
        args: ["-O2", "-shared", "-fPIC", "-o", "slow.so", "slow.c", "-ldl"],
        cwd: directory,
      }).output();
      if (success) return new SlowDisk(directory);
      return fail(`gcc: ${new TextDecoder().decode(stderr).trim()}`);
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return fail("gcc is not installed");
      throw error;
    }
  }

  /** Removes the library. */
  [Symbol.dispose](): void {
    Deno.removeSync(this.#directory, { recursive: true });
  }
}
