/**
 * What a program has started, so that it can be killed as a whole.
 *
 * @module
 */

/** Kills a process and all that come from it; harmless where they have ended. */
export function killWithDescendants(pid: number): void {
  for (const one of [pid, ...descendantsOf(pid)]) {
    try {
      Deno.kill(one, "SIGKILL");
    } catch {
      // It has ended by itself.
    }
  }
}

function descendantsOf(pid: number): number[] {
  const { stdout } = new Deno.Command("ps", { args: ["-eo", "pid=,ppid="] }).outputSync();
  const pairs = new TextDecoder().decode(stdout).trim().split("\n")
    .map((line) => line.trim().split(/\s+/).map(Number));
  const found: number[] = [];
  for (let parents = [pid]; parents.length > 0;) {
    parents = pairs.flatMap(([child, parent]) =>
      child !== undefined && parent !== undefined && parents.includes(parent) ? [child] : []
    );
    found.push(...parents);
  }
  return found;
}
