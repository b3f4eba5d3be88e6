/**
 * Names and removal of network namespaces: when they are no longer needed, when
 * the process is interrupted, and after one that died without cleaning up.
 *
 * @module
 */

const NETNS_FOLDER = "/run/netns";
const PREFIX = "sendq";
const NAME = new RegExp(`^${PREFIX}-(\\d+)-(\\d+)-\\d+-`);
const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

const live = new Set<string>();
let made = 0;

/**
 * A new name for the namespaces of one network: no other process has it, and it
 * says whose it is. From now on they are removed when this process is
 * interrupted or exits. Removes those of processes that are gone.
 */
export function newInstanceName(): string {
  removeStale();
  if (live.size === 0) {
    for (const signal of SIGNALS) Deno.addSignalListener(signal, handlers[signal]);
    globalThis.addEventListener("unload", removeLive);
  }
  const name = `${PREFIX}-${Deno.pid}-${startTime(Deno.pid) ?? 0}-${++made}`;
  live.add(name);
  return name;
}

/**
 * Kills what runs in namespaces and removes them. Synchronous, because a dying
 * process has no time to wait.
 *
 * @param name A network's name for all of its namespaces, or one namespace's.
 */
export function removeNamespaces(name: string): void {
  for (const namespace of namespaces()) {
    if (namespace === name || namespace.startsWith(`${name}-`)) remove(namespace);
  }
  if (live.delete(name) && live.size === 0) {
    for (const signal of SIGNALS) Deno.removeSignalListener(signal, handlers[signal]);
    globalThis.removeEventListener("unload", removeLive);
  }
}

function removeLive(): void {
  for (const name of [...live]) removeNamespaces(name);
}

/** Cleans up, then lets the signal do what it does without us. */
function handler(signal: Deno.Signal): () => void {
  return () => {
    removeLive();
    Deno.kill(Deno.pid, signal);
  };
}

const handlers = {
  SIGINT: handler("SIGINT"),
  SIGTERM: handler("SIGTERM"),
  SIGHUP: handler("SIGHUP"),
};

function removeStale(): void {
  for (const namespace of namespaces()) {
    const [, pid, start] = NAME.exec(namespace) ?? [];
    if (pid !== undefined && startTime(Number(pid)) !== start) remove(namespace);
  }
}

function remove(namespace: string): void {
  // A process may have had a child between the listing and its death.
  for (let round = 0; round < 10; round++) {
    const pids = ip("netns", "pids", namespace).split("\n").filter((pid) => pid !== "");
    if (pids.length === 0) break;
    for (const pid of pids) {
      try {
        Deno.kill(Number(pid), "SIGKILL");
      } catch {
        // It has ended meanwhile.
      }
    }
  }
  // Fails when another process removed it first.
  ip("netns", "del", namespace);
}

function namespaces(): string[] {
  try {
    return [...Deno.readDirSync(NETNS_FOLDER)].map((entry) => entry.name);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return [];
    throw error;
  }
}

/**
 * When a process started, in clock ticks since boot: field 22 of proc_pid_stat(5).
 * Read by `cat`, because Deno lets nobody without every permission read /proc,
 * and an unreadable process must not be taken for one that is gone.
 */
function startTime(pid: number): string | undefined {
  const { success, stdout } = new Deno.Command("cat", {
    args: [`/proc/${pid}/stat`],
    stderr: "null",
  }).outputSync();
  if (!success) return undefined;
  const stat = new TextDecoder().decode(stdout);
  // The second field is the command in parentheses and may hold anything.
  return stat.slice(stat.lastIndexOf(")") + 2).split(" ")[22 - 3];
}

function ip(...args: string[]): string {
  const { stdout } = new Deno.Command("ip", { args, stderr: "null" }).outputSync();
  return new TextDecoder().decode(stdout);
}
