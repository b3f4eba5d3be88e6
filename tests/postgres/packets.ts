/** What lies in a cluster's queue, and texts to fill one with. */
import { postgresQueue } from "../../src/postgres/postgres.ts";

/** What lies in the queue, in its order. */
export async function inCluster(url: string): Promise<string[]> {
  await using queue = await postgresQueue({ url, durability: "power-loss" });
  const texts: string[] = [];
  for (let after = 0;;) {
    const packets = await queue.read(after, 1e6);
    if (packets.length === 0) return texts;
    texts.push(...packets.map(({ payload }) => new TextDecoder().decode(payload)));
    after = packets.at(-1)?.id ?? after;
  }
}

/** So many texts: `"1"` to `"n"`, or from another number on. */
export function numbers(n: number, from = 1): string[] {
  return Array.from({ length: n }, (_, i) => String(i + from));
}
