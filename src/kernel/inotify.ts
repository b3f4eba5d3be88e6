/**
 * Changes of files, as the kernel tells them (inotify(7)).
 *
 * One instance serves the process, and a thread of the runtime waits for it. `Deno.watchFs` is not
 * used for it: at each event it looks at each watched file anew (deno_facts, Watching files),
 * which for a thousand files takes all of a core. And it cannot leave out what this process
 * writes itself.
 */

import { systemClock } from "../base/clock.ts";
import { KernelCallError } from "../base/errors.ts";
import type { FileWatch } from "../base/ports.ts";
import { rest } from "../base/waits.ts";
import { closeDescriptor, cString, libc } from "./libc.ts";

const IN_NONBLOCK = 0x800;
const IN_CLOEXEC = 0x80000;
const IN_MODIFY = 0x2;
/** Times, rights, owner or the number of links have changed. */
const IN_ATTRIB = 0x4;
/** Only the first event is told. */
const IN_ONESHOT = 2 ** 31;
/** Events were lost, whose ever they were. */
const IN_Q_OVERFLOW = 0x4000;
/** The watch is gone: it was ended, its one event was told, or its file was removed. */
const IN_IGNORED = 0x8000;

/** struct inotify_event { int wd; uint32_t mask, cookie, len; char name[len]; } */
const EVENT_HEAD_BYTES = 16;
const BUFFER_BYTES = 4096;
/** struct pollfd { int fd; short events, revents; } */
const POLLFD_BYTES = 8n;
const POLLIN = 1;
/** A thread that nobody needs any more, because its isolate has ended, is free again by then. */
const WAIT_MS = 1000;
/** poll is asked again this often at once if it comes back early: a signal may have cut it short. */
const POLL_ATTEMPTS = 3;
/** Those of Deno itself: a sandbox that says 0 and does nothing gives no new one. */
const STDIO = 2;

class Instance {
  readonly #fd: number;
  /** The thread works on memory of the C library, which stays where it is (look_up.ts). */
  readonly #pollfd: bigint;
  readonly #callbacks = new Map<number, Set<() => void>>();
  readonly #buffer = new DataView(new ArrayBuffer(BUFFER_BYTES));
  readonly #bytes = new Uint8Array(this.#buffer.buffer);

  /** @throws {KernelCallError} */
  constructor() {
    this.#fd = libc().inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    if (this.#fd <= STDIO) {
      throw new KernelCallError(
        "inotify_init1",
        "the kernel gives no inotify instance (fs.inotify.max_user_instances)",
      );
    }
    this.#pollfd = libc().calloc(1n, POLLFD_BYTES);
    if (this.#pollfd === 0n) {
      closeDescriptor(this.#fd);
      throw new KernelCallError("calloc", "there is no memory to wait for changes of files");
    }
    libc().memcpyTo(this.#pollfd, new Int32Array([this.#fd, POLLIN]), POLLFD_BYTES);
  }

  /** Once it is not, nobody watches here any more, and it ends. */
  get isInUse(): boolean {
    return this.#callbacks.size > 0;
  }

  /**
   * @param mask What to tell of. Of two for the same file the later one holds.
   * @throws {KernelCallError}
   */
  watch(path: string, mask: number, onChange: () => void): () => void {
    const watch = libc().inotify_add_watch(this.#fd, cString(path), mask);
    // The first is 1.
    if (watch < 1) {
      throw new KernelCallError(
        "inotify_add_watch",
        `the kernel does not watch ${path} (it is gone, or fs.inotify.max_user_watches are in use)`,
      );
    }
    let callbacks = this.#callbacks.get(watch);
    if (callbacks === undefined) this.#callbacks.set(watch, callbacks = new Set());
    const call = () => onChange();
    callbacks.add(call);
    return () => {
      callbacks.delete(call);
      // Perhaps the kernel has ended it, and the instance is gone.
      if (callbacks.size > 0 || this.#callbacks.get(watch) !== callbacks) return;
      // Numbers are not used again, so that an event that is late is nobody's.
      this.#callbacks.delete(watch);
      // Wakes who waits.
      libc().inotify_rm_watch(this.#fd, watch);
    };
  }

  /**
   * Calls those whose files change, as long as there are any; then gives the instance back.
   * Just before, `onEnd` is called: from then on nobody may watch.
   */
  async run(onEnd: () => void): Promise<void> {
    try {
      for (let early = 0; this.isInUse;) {
        const fromMs = systemClock.nowMs();
        const ready = await libc().pollInThread(this.#pollfd, 1n, WAIT_MS);
        early = ready > 0 || systemClock.nowMs() - fromMs > WAIT_MS / 2 ? 0 : early + 1;
        // A sandbox may refuse it, or pretend: then events are read once a second.
        if (early >= POLL_ATTEMPTS) await rest(systemClock, WAIT_MS);
        this.#tell();
      }
    } finally {
      onEnd();
      this.close();
    }
  }

  close(): void {
    libc().free(this.#pollfd);
    closeDescriptor(this.#fd);
  }

  #tell(): void {
    for (;;) {
      const length = Number(libc().read(this.#fd, this.#bytes, BigInt(BUFFER_BYTES)));
      if (length <= 0) return;
      for (let at = 0; at + EVENT_HEAD_BYTES <= length;) {
        const watch = this.#buffer.getInt32(at, true);
        const mask = this.#buffer.getUint32(at + 4, true);
        at += EVENT_HEAD_BYTES + this.#buffer.getUint32(at + 12, true);
        if ((mask & IN_Q_OVERFLOW) !== 0) {
          for (const each of [...this.#callbacks.values()]) callAll(each);
        } else if ((mask & IN_IGNORED) !== 0) {
          this.#callbacks.delete(watch);
        } else {
          callAll(this.#callbacks.get(watch));
        }
      }
    }
  }
}

/** As they are now: who is called may end its watch, and begin another one. */
function callAll(callbacks: ReadonlySet<() => void> | undefined): void {
  for (const call of [...callbacks ?? []]) call();
}

let running: { readonly instance: Instance; readonly ended: Promise<void> } | undefined;

function watch(path: string, mask: number, onChange: () => void): () => Promise<void> {
  // One that nobody uses any more is about to end: whoever waits for that would wait for us, too.
  const used = running?.instance.isInUse ? running : undefined;
  const instance = used?.instance ?? new Instance();
  let end: () => void;
  try {
    end = instance.watch(path, mask, onChange);
  } catch (error) {
    if (used === undefined) instance.close();
    throw error;
  }
  const onEnd = () => {
    if (running?.instance === instance) running = undefined;
  };
  const { ended } = running = used ?? { instance, ended: instance.run(onEnd) };
  return async () => {
    end();
    if (!instance.isInUse) await ended;
  };
}

/** Tells of changes of files; `undefined`: this process may not call the C library. */
export function inotify(): FileWatch | undefined {
  try {
    libc();
  } catch {
    return undefined;
  }
  return {
    touches: (path, onTouch) => watch(path, IN_ATTRIB, onTouch),
    nextWrite: (path, onWrite) => watch(path, IN_MODIFY + IN_ONESHOT, onWrite),
  };
}
