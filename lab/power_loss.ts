/**
 * What would a power cut have left on disk? A sender runs under strace. From its
 * system calls the files are built anew as they were at every moment, twice:
 * only what a sync had made durable, and everything that was written. Each such
 * disk is opened as a queue and held against the promise:
 *
 * 1. A packet whose `enqueue()` has resolved is on the durable disk, unless its
 *    bytes have been acknowledged.
 * 2. A packet that has left either disk had been acknowledged, by a reading of
 *    TCP_INFO that came before.
 *
 * ```sh
 * deno run -A lab/power_loss.ts [loop|threads] [file|spool]
 * ```
 *
 * @module
 */

import type { SyncIn } from "../src/queue/options.ts";
import { openQueueAt, type Place } from "./opened_queue.ts";
import { RecorderProcess } from "./recorder_process.ts";
import { numbersOf, pathOf, straceMissing, stringsOf, type SystemCall, trace } from "./strace.ts";

const CHILD = new URL("./power_loss_child.ts", import.meta.url).pathname;
const PACKET_BYTES = 100;
/** Of `struct tcp_info` (kernel_facts, section 10). */
const BYTES_ACKED_OFFSET = 120;
/** What nothing but SQLite may do to its files would escape this model. */
const UNMODELLED = /^(writev|pwritev2?|fallocate|copy_file_range|rename(at2?)?)$/;

/** What {@linkcode examine} found. */
export interface PowerLossFindings {
  /** Packets whose enqueue resolved. */
  readonly stored: number;
  /** Syncs of the queue's files. */
  readonly syncs: number;
  /** Disks that were opened. */
  readonly disks: number;
  /** Packets that had left the disk at the end. */
  readonly removed: number;
  /** Broken promises, in words. */
  readonly violations: readonly string[];
}

/** A traced sender. */
export interface TracedSender {
  /** Its queue's file; it is no longer needed. */
  readonly queue: string;
  /** What it is. */
  readonly place: Place;
  readonly calls: readonly SystemCall[];
}

/**
 * Runs a sender under strace until it has delivered `packets`.
 *
 * @param syncIn Who waits for the disk.
 * @param place What the queue's file is.
 */
export async function traceSender(
  directory: string,
  packets: number,
  syncIn: SyncIn = "loop",
  place: Place = "file",
): Promise<TracedSender> {
  const queue = `${directory}/outbox.db`;
  await using server = await RecorderProcess.start({ record: `${directory}/server.record` });
  const command = [
    ...[Deno.execPath(), "run", "--quiet", "--allow-all", CHILD],
    ...[queue, `tcp://127.0.0.1:${server.port}`, String(packets), String(PACKET_BYTES)],
    ...[syncIn, place],
  ];
  return { queue, place, calls: await trace(command, directory) };
}

/**
 * Holds every disk that a power cut could have left against the promise.
 *
 * @param directory Where disks may be laid out.
 */
export async function examine(
  { queue, place, calls }: TracedSender,
  directory: string,
): Promise<PowerLossFindings> {
  const disk = new Disk(queue, place);
  const violations: string[] = [];
  let base: number | undefined;
  let ackedBytes = 0;
  let stored = 0;
  let disks = 0;
  let syncs = 0;
  let removed = 0;

  const check = async (when: string) => {
    // Before the first promise there is nothing to keep.
    if (stored === 0) return;
    for (const kind of ["durable", "written"] as const) {
      disks++;
      const image = await disk.open(kind, `${directory}/disk-${disks}`);
      const ackedId = Math.floor(ackedBytes / PACKET_BYTES);
      removed = image.lastId - image.ids.size;
      for (let id = 1; id <= Math.max(stored, image.lastId); id++) {
        if (image.ids.has(id) || id <= ackedId) continue;
        violations.push(
          `${when}: packet ${id} is not on the ${kind} disk; ` +
            `${stored} were stored, ${ackedId} acknowledged`,
        );
      }
    }
  };

  for (const call of calls) {
    if (call.name === "getsockopt" && call.args.includes("TCP_INFO")) {
      const info = stringsOf(call.args)[0];
      // Some readings ask for the state alone.
      if (info === undefined || info.length < BYTES_ACKED_OFFSET + 8) continue;
      const reading = Number(new DataView(info.buffer).getBigUint64(BYTES_ACKED_OFFSET, true));
      base ??= reading;
      ackedBytes = Math.max(ackedBytes, reading - base);
    } else if (call.name === "write" && call.args.startsWith("1<")) {
      const words = new TextDecoder().decode(stringsOf(call.args)[0]);
      stored = Math.max(stored, Number(/^stored (\d+)\n$/.exec(words)?.[1] ?? stored));
      await check(`when enqueue ${stored} resolved`);
    } else if (disk.concerns(call)) {
      if (/^(fsync|fdatasync)$/.test(call.name)) {
        syncs++;
        await check(`at sync ${syncs}, before it`);
        disk.apply(call);
        await check(`at sync ${syncs}, after it`);
      } else {
        disk.apply(call);
      }
    }
  }
  return { stored, syncs, disks, removed, violations };
}

type DiskKind = "durable" | "written";

/** The queue's files, built anew from system calls. */
class Disk {
  readonly #queue: string;
  readonly #place: Place;
  readonly #files: { [kind in DiskKind]: Map<string, Uint8Array> } = {
    durable: new Map(),
    written: new Map(),
  };

  constructor(queue: string, place: Place) {
    this.#queue = queue;
    this.#place = place;
  }

  /** Whether a call is about the queue's files or their directory. */
  concerns(call: SystemCall): boolean {
    const path = targetOf(call);
    return path.startsWith(this.#queue) || path === this.#directory;
  }

  apply({ name, args, result, ...rest }: SystemCall): void {
    const path = targetOf({ name, args, result, ...rest });
    // The index of the WAL is rebuilt at each start; what else is beside it holds no packets.
    if (result < 0 || /(-shm|\.lock|\.reports)$/.test(path)) return;
    const { written, durable } = this.#files;
    const before = written.get(path) ?? new Uint8Array(0);
    switch (name) {
      case "openat":
        if (path !== this.#directory && (args.includes("O_TRUNC") || !written.has(path))) {
          written.set(path, new Uint8Array(0));
        }
        return;
      case "pwrite64": {
        const bytes = stringsOf(args)[0] ?? new Uint8Array(0);
        const offset = numbersOf(args).at(-1) ?? 0;
        const after = new Uint8Array(Math.max(before.length, offset + result));
        after.set(before);
        after.set(bytes.subarray(0, result), offset);
        written.set(path, after);
        return;
      }
      case "ftruncate": {
        const after = new Uint8Array(numbersOf(args).at(-1) ?? 0);
        after.set(before.subarray(0, after.length));
        written.set(path, after);
        return;
      }
      case "unlink":
      case "unlinkat":
        // A name that is gone may be back after a power cut, until its directory is synced.
        written.delete(path);
        return;
      case "fsync":
      case "fdatasync":
        if (path === this.#directory) {
          for (const name of durable.keys()) if (!written.has(name)) durable.delete(name);
        } else {
          durable.set(path, before.slice());
        }
        return;
      case "mmap":
        if (args.includes("PROT_WRITE") && args.includes("MAP_SHARED")) {
          throw new Error(`a write through memory escapes the trace: ${path}`);
        }
        return;
      default:
        if (UNMODELLED.test(name) || name === "write") throw new Error(`${name} on ${path}`);
    }
  }

  /** Opens what a power cut would have left, as the next start would. */
  async open(kind: DiskKind, directory: string): Promise<{ lastId: number; ids: Set<number> }> {
    await Deno.mkdir(directory);
    for (const [path, bytes] of this.#files[kind]) {
      await Deno.writeFile(`${directory}/${path.slice(this.#directory.length + 1)}`, bytes);
    }
    await using queue = await openQueueAt(
      `${directory}/${this.#queue.slice(this.#directory.length + 1)}`,
      this.#place,
    );
    const ids = new Set<number>();
    for (let after = 0;;) {
      const packets = await queue.read(after, 1024 * 1024);
      if (packets.length === 0) break;
      for (const { id } of packets) ids.add(after = id);
    }
    const { lastId } = queue;
    await queue.close();
    await Deno.remove(directory, { recursive: true });
    return { lastId, ids };
  }

  get #directory(): string {
    return this.#queue.slice(0, this.#queue.lastIndexOf("/"));
  }
}

function targetOf({ name, args }: SystemCall): string {
  const named = /^(openat|unlink|unlinkat|rename\w*)$/.test(name);
  if (named) return new TextDecoder().decode(stringsOf(args)[0]);
  if (name === "mmap") {
    const [, descriptor] = /, (\d+<[^>]*>), /.exec(args) ?? [];
    return descriptor === undefined ? "" : pathOf(descriptor);
  }
  return pathOf(args);
}

if (import.meta.main) {
  const missing = await straceMissing();
  if (missing !== undefined) {
    Deno.stderr.writeSync(new TextEncoder().encode(`power_loss: ${missing}\n`));
    Deno.exit(77);
  }
  const directory = await Deno.makeTempDir({ prefix: "sendq-power-loss-" });
  try {
    const syncIn = Deno.args[0] === "threads" ? "threads" : "loop";
    const place = Deno.args[1] === "spool" ? "spool" : "file";
    const findings = await examine(await traceSender(directory, 60, syncIn, place), directory);
    Deno.stdout.writeSync(new TextEncoder().encode(JSON.stringify(findings, null, 2) + "\n"));
    Deno.exitCode = findings.violations.length === 0 ? 0 : 1;
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}
