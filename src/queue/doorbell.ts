/**
 * How a sender hears at once of packets that other processes have stored: whoever has enqueued
 * touches the times of the lock file, which the sender watches.
 */

import { eachSecond } from "../base/waits.ts";
import { messageOf } from "../base/errors.ts";
import type { Clock, FileWatch } from "../base/ports.ts";
import { lockPathOf } from "./lock_file.ts";
import { isSymbolicLink } from "./sqlite/file_identity.ts";

export interface Doorbell {
  /** `"watch"`: at once; `"poll"`: within a second. */
  readonly mode: "watch" | "poll";
  readonly pollReason: string | undefined;
  stop(): Promise<void>;
}

/**
 * So many lock files of a process are watched by the runtime at a time. At each change of one it
 * compares its path with each path that is watched, by a dozen of system calls (deno_facts,
 * Watching files): a thousand would take all of a core for that.
 */
const MAX_WATCHED = 16;
let watched = 0;

/**
 * Has the runtime watch a file, for those who may not ask the kernel. It tells of what this
 * process writes, too.
 */
const runtimeWatch: Pick<FileWatch, "touches"> = {
  touches(path, onTouch) {
    if (watched >= MAX_WATCHED) {
      throw new Error(`this process watches ${MAX_WATCHED} queues already`);
    }
    const watcher = Deno.watchFs(path);
    watched++;
    const watching = watch(watcher, onTouch);
    let stopped = false;
    return () => {
      if (!stopped) {
        watcher.close();
        watched--;
      }
      stopped = true;
      return watching;
    };
  },
};

async function watch(watcher: Deno.FsWatcher, onTouch: () => void): Promise<void> {
  for await (const event of watcher) {
    if (event.kind !== "access") onTouch();
  }
}

/**
 * Calls back when another process has rung, and once a second besides: a
 * process without the right to touch the lock file cannot ring.
 *
 * @param onRing Called at each ring with true, and once a second with false.
 * @param watch Tells of rings. @default {the runtime}
 */
export function listenForRings(
  lockPath: string,
  onRing: (rung: boolean) => void,
  clock: Clock,
  watch: Pick<FileWatch, "touches"> = runtimeWatch,
): Doorbell {
  const stopTimer = eachSecond(clock, () => onRing(false));
  let stopWatch: (() => Promise<void>) | undefined;
  let pollReason: string | undefined;
  try {
    stopWatch = watch.touches(lockPath, () => onRing(true));
  } catch (error) {
    // Typically no inotify instances are left (fs.inotify.max_user_instances).
    pollReason = messageOf(error);
  }
  return {
    mode: stopWatch === undefined ? "poll" : "watch",
    pollReason,
    async stop() {
      stopTimer();
      await stopWatch?.();
    },
  };
}

/** Rings, but not too often. */
export interface Ringer {
  /** Rings, now or a little later. */
  ring(): void;
  /** Does at once what was put off. */
  flush(): void;
}

/** Rings at most so often; the last ring of a burst comes late, never not at all. */
export function ringerOf(intervalMs: number, clock: Clock, ring: () => void): Ringer {
  let lastRingMs = -Infinity;
  let cancelTrailing: (() => void) | undefined;
  const now = (): void => {
    cancelTrailing = undefined;
    lastRingMs = clock.nowMs();
    ring();
  };
  return {
    ring() {
      if (cancelTrailing !== undefined) return;
      const waitMs = lastRingMs + intervalMs - clock.nowMs();
      if (waitMs <= 0) now();
      else cancelTrailing = clock.setTimer(waitMs, now);
    },
    flush() {
      if (cancelTrailing === undefined) return;
      cancelTrailing();
      now();
    },
  };
}

const FILE_INTERVAL_MS = 5;

/** Tells the sender, in another process, that there are packets. */
export function lockFileRinger(queuePath: string, clock: Clock): Ringer {
  const path = lockPathOf(queuePath);
  // Asked beforehand, so that nothing prompts.
  const { state } = Deno.permissions.querySync({ name: "write", path });
  if (state !== "granted") return { ring() {}, flush() {} };
  return ringerOf(FILE_INTERVAL_MS, clock, () => {
    const seconds = clock.wallMs() / 1000;
    try {
      if (isSymbolicLink(path)) return; // Whatever it leads to is none of ours.
      Deno.utimeSync(path, seconds, seconds);
    } catch {
      // No sender has ever been here, or it is another user's: the sender looks
      // once a second by itself.
    }
  });
}
