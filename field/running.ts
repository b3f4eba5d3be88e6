/**
 * The processes of the ring that are running, and their directories, so that an
 * interrupted ring leaves none.
 *
 * @module
 */

const running = new Map<Deno.ChildProcess, () => void>();
const folders = new Set<string>();

/** Does something in a directory of its own under `scratch`, and removes that. */
export async function inFolder<T>(scratch: string, act: (work: string) => Promise<T>): Promise<T> {
  const work = await Deno.makeTempDir({ dir: scratch, prefix: "run-" });
  folders.add(work);
  try {
    return await act(work);
  } finally {
    folders.delete(work);
    await Deno.remove(work, { recursive: true });
  }
}

/**
 * Remembers a process until it ends.
 *
 * @param kill How to kill it and what belongs to it.
 */
export function remember(child: Deno.ChildProcess, kill: () => void): void {
  running.set(child, kill);
  child.status.finally(() => running.delete(child));
}

/** Kills them all, waits for their end, and removes the directories. */
export async function endAll(): Promise<void> {
  const children = [...running];
  for (const [, kill] of children) {
    try {
      kill();
    } catch {
      // It has ended by itself.
    }
  }
  await Promise.all(children.map(([child]) => child.status));
  // Whoever is still in the middle of something may write there: no reason to stay.
  await Promise.allSettled([...folders].map((work) => Deno.remove(work, { recursive: true })));
}
