/**
 * A limit of memory as a container has it: a control group (cgroups(7)) of the first
 * or of the second kind.
 *
 * @module
 */

const FIRST = "/sys/fs/cgroup/memory";
const SECOND = "/sys/fs/cgroup";

/** A group of processes that may have so much memory together, page cache and all. */
export class MemoryLimit implements Disposable {
  readonly #group: string;
  readonly #isFirst: boolean;

  /**
   * @param bytes Beyond it the kernel kills the process.
   * @throws {Error} There are no such groups, or they may not be made.
   */
  constructor(bytes: number) {
    this.#isFirst = exists(`${FIRST}/memory.limit_in_bytes`);
    this.#group = `${this.#isFirst ? FIRST : SECOND}/sendq-test-${crypto.randomUUID()}`;
    write("mkdir", this.#group);
    try {
      const limit = this.#isFirst ? "memory.limit_in_bytes" : "memory.max";
      write("sh", "-c", `echo ${bytes} > ${this.#group}/${limit}`);
      // Nothing may get away to a swap file, where there is one.
      const swap = this.#isFirst ? "memory.swappiness" : "memory.swap.max";
      write("sh", "-c", `! test -e ${this.#group}/${swap} || echo 0 > ${this.#group}/${swap}`);
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  /** Where a process writes its number to be in the group. */
  get processes(): string {
    return `${this.#group}/cgroup.procs`;
  }

  /** How often the kernel had to kill a process of it. */
  get kills(): number {
    const file = this.#isFirst ? "memory.oom_control" : "memory.events";
    const text = write("cat", `${this.#group}/${file}`);
    return Number(/^oom_kill (\d+)$/m.exec(text)?.[1]);
  }

  [Symbol.dispose](): void {
    write("rmdir", this.#group);
  }
}

/** Why there can be no limits here; `undefined`: there can. */
export function limitObstacle(): string | undefined {
  try {
    new MemoryLimit(2 ** 30)[Symbol.dispose]();
    return undefined;
  } catch (error) {
    return `no memory limits here: ${error instanceof Error ? error.message : error}`;
  }
}

function exists(path: string): boolean {
  return new Deno.Command("test", { args: ["-e", path] }).outputSync().success;
}

/** Deno lets nobody write to /sys who has not every permission; programs may. */
function write(command: string, ...args: string[]): string {
  const { success, stdout, stderr } = new Deno.Command(command, { args }).outputSync();
  if (!success) throw new Error(new TextDecoder().decode(stderr).trim());
  return new TextDecoder().decode(stdout);
}
