/**
 * Finds out beforehand which of Deno's permissions are missing, so that one message
 * names every flag to add.
 *
 * @module
 */

import type { HostRemote, Remote } from "../base/remote.ts";
import { libcCandidates, libcGrant } from "../kernel/libc.ts";
import { lockPathOf } from "../queue/lock_file.ts";

/** Where clients connect. */
export type Listen =
  | { readonly transport: "tcp"; readonly hostname: string; readonly port: number }
  | { readonly transport: "unix"; readonly path: string };

/** What is going to be used. */
export interface Needs {
  /** Servers to connect to. */
  readonly remotes?: readonly Remote[];
  /** Addresses of this host to connect from; port 0: any that is free. */
  readonly sources?: readonly { readonly hostname: string; readonly port: number }[];
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
  /** Whether the kernel's counters are read. */
  readonly kernel?: boolean;
  /** The C library's path, where the user gave one. */
  readonly libc?: string | undefined;
}

/**
 * Checks that everything needed is granted. Asks nobody: a command that runs as a
 * service has nobody to answer a prompt.
 *
 * @param needs What is going to be used.
 * @throws {Deno.errors.NotCapable} Something is not; the message has all flags to add.
 */
export function checkPermissions(needs: Needs): void {
  const missing = missingPermissions(needs);
  if (missing.length === 0) return;
  throw new Deno.errors.NotCapable(
    `not permitted here; add to "deno run" what is missing: ${flagsOf(missing, needs).join(" ")}`,
  );
}

/**
 * The same, after Deno has asked who sits at the terminal for what is missing. Where
 * nobody does, or with `--no-prompt`, Deno asks nobody.
 *
 * @param needs What is going to be used.
 * @throws {Deno.errors.NotCapable} Something was not granted; the message has all flags to add.
 */
export function requestPermissions(needs: Needs): void {
  for (const descriptor of missingPermissions(needs)) {
    // With one refused there is nothing to be gained by asking for the next.
    if (Deno.permissions.requestSync(descriptor).state !== "granted") break;
  }
  checkPermissions(needs);
}

/**
 * The flags that {@linkcode Needs} need and that are not granted.
 *
 * @param needs What is going to be used.
 */
export function missingFlags(needs: Needs): string[] {
  return flagsOf(missingPermissions(needs), needs);
}

/**
 * All flags that {@linkcode Needs} need, granted or not, and no more than that.
 *
 * @param needs What is going to be used.
 */
export function neededFlags(needs: Needs): string[] {
  return flagsOf(wantedPermissions(needs, () => false), needs);
}

type Missing = Deno.NetPermissionDescriptor | Deno.FfiPermissionDescriptor | FilePermission;
type FilePermission = Deno.ReadPermissionDescriptor | Deno.WritePermissionDescriptor;

function missingPermissions(needs: Needs): Missing[] {
  return wantedPermissions(needs, granted);
}

/** What is wanted and `isGranted` denies. */
function wantedPermissions(
  needs: Needs,
  isGranted: (descriptor: Deno.PermissionDescriptor) => boolean,
): Missing[] {
  const { remotes = [], sources = [], listens = [], outputs = [], queues = [], kernel = false } =
    needs;
  const files = [...needs.files ?? [], ...(needs.queuesToLookInto ?? []).flatMap(filesOf)];
  const ends = [...listens, ...remotes];
  const sockets = ends.flatMap((end) => "path" in end ? [end.path] : []);
  const wanted: Missing[] = ends.map((end) => ({
    name: "net",
    host: "path" in end ? `unix:${end.path}` : hostOf(end),
  }));
  for (const { hostname, port } of sources) {
    wanted.push({ name: "net", host: `${hostOf({ hostname, port: 0 })}:${port}` });
  }
  for (const name of ["read", "write"] as const) {
    const paths = [...queues.flatMap(filesOf), ...sockets, ...(name === "read" ? files : outputs)];
    wanted.push(...paths.map((path): FilePermission => ({ name, path })));
  }
  const missing = wanted.filter((descriptor) => !isGranted(descriptor));
  const known = libcCandidates().map(({ path }) => path);
  const libraries = needs.libc === undefined ? known : [needs.libc];
  if (kernel && known.length > 0 && !libraries.some((path) => isGranted({ name: "ffi", path }))) {
    const path = needs.libc ?? libcGrant();
    // Where it cannot be known which of several it is, Deno asks for any.
    missing.push(path === "" || path.includes(",") ? { name: "ffi" } : { name: "ffi", path });
  }
  return missing;
}

/** One flag a kind, with everything that it lacks. */
function flagsOf(missing: readonly Missing[], { libc }: Needs): string[] {
  return (["net", "read", "write", "ffi"] as const).flatMap((name) => {
    const lacking = missing.filter((descriptor) => descriptor.name === name);
    if (lacking.length === 0) return [];
    if (name === "ffi") return [`--allow-ffi=${libc ?? (libcGrant() || "PATH --libc=PATH")}`];
    const values = lacking.map((descriptor) =>
      "host" in descriptor ? descriptor.host : "path" in descriptor ? descriptor.path : ""
    );
    return [`--allow-${name}=${[...new Set(values)].join(",")}`];
  });
}

/** A host and its port; port 0 is any port, which only a grant of the whole host covers. */
function hostOf({ hostname, port }: Pick<HostRemote, "hostname" | "port">): string {
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
