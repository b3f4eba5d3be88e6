/**
 * Finds out before a command starts which of Deno's permissions it lacks, so
 * that one message names every flag to add. Asks nobody: a command that runs
 * as a service has nobody to answer a prompt.
 *
 * @module
 */

import type { Remote } from "../../base/remote.ts";
import { libcCandidates, libcGrant } from "../../kernel/libc.ts";
import { lockPathOf } from "../../queue/lock_file.ts";
import type { Listen } from "./values.ts";

/** What a command is going to use. */
export interface Needs {
  /** Servers to connect to. */
  readonly remotes?: readonly Remote[];
  /** Where to listen. */
  readonly listens?: readonly Listen[];
  /** Files to read. */
  readonly files?: readonly string[];
  /** Files to write. */
  readonly outputs?: readonly string[];
  /** Queues to open. */
  readonly queues?: readonly string[];
  /** Queues to look into, and their senders' reports. */
  readonly queuesToLookInto?: readonly string[];
  /** Whether it reads the kernel's counters. */
  readonly kernel?: boolean;
  /** The C library's path, where the user gave one. */
  readonly libc?: string | undefined;
}

/**
 * Checks that everything needed is granted.
 *
 * @param needs What is going to be used.
 * @throws {Deno.errors.NotCapable} Something is not; the message has all flags to add.
 */
export function checkPermissions(needs: Needs): void {
  const flags = missingFlags(needs);
  if (flags.length === 0) return;
  throw new Deno.errors.NotCapable(
    `not permitted here; add to "deno run" what is missing: ${flags.join(" ")}`,
  );
}

/**
 * The flags that {@linkcode Needs} need and that are not granted.
 *
 * @param needs What is going to be used.
 */
export function missingFlags(needs: Needs): string[] {
  const { remotes = [], listens = [], outputs = [], queues = [], kernel = false } = needs;
  const files = [...needs.files ?? [], ...(needs.queuesToLookInto ?? []).flatMap(filesOf)];
  const sockets = listens.flatMap((listen) => listen.transport === "unix" ? [listen.path] : []);
  const hosts = [...listens, ...remotes]
    .map((end) => "path" in end ? `unix:${end.path}` : hostOf(end))
    .filter((host) => !granted({ name: "net", host }));
  const flags = hosts.length === 0 ? [] : [`--allow-net=${hosts.join(",")}`];
  for (const name of ["read", "write"] as const) {
    const paths = [...queues.flatMap(filesOf), ...sockets, ...(name === "read" ? files : outputs)]
      .filter((path) => !granted({ name, path }));
    if (paths.length > 0) flags.push(`--allow-${name}=${paths.join(",")}`);
  }
  const { libc } = needs;
  const known = libcCandidates().map(({ path }) => path);
  const paths = libc === undefined ? known : [libc];
  if (kernel && known.length > 0 && !paths.some((path) => granted({ name: "ffi", path }))) {
    flags.push(`--allow-ffi=${libc ?? (libcGrant() || "PATH --libc=PATH")}`);
  }
  return flags;
}

/** A host and its port; port 0 is any port, which only a grant of the whole host covers. */
function hostOf({ hostname, port }: Remote): string {
  const host = hostname.includes(":") ? `[${hostname}]` : hostname;
  return port === 0 ? host : `${host}:${port}`;
}

/** A queue's own file and its lock file; SQLite's -wal and -shm files need no grant. */
function filesOf(queue: string): string[] {
  const lock = granted({ name: "read", path: queue }) ? lockPathOf(queue) : `${queue}.lock`;
  return [queue, lock];
}

function granted(descriptor: Deno.PermissionDescriptor): boolean {
  return Deno.permissions.querySync(descriptor).state === "granted";
}
