/**
 * The commands that take a queue, as the fuzzer runs them: in this process, with
 * streams of their own.
 *
 * @module
 */

import { connectionsOf } from "../lab/connections_of.ts";
import type { Stdio } from "../src/cli/main.ts";

/** The command itself: {@linkcode main}, or one with a fault planted into it. */
export type Main = (args: readonly string[], io: Stdio) => Promise<number>;

/** A command and what it may do. */
export interface FuzzedCommand {
  readonly name: string;
  /** Its arguments, for a queue at this path, a server there, and a file to make. */
  readonly args: (at: CommandPlaces) => readonly string[];
  /** What it reads. */
  readonly input?: string;
  /**
   * - `"look"`: changes nothing
   * - `"store"`: adds {@linkcode ADDED}
   * - `"remove"`: may take out {@linkcode REMOVED_PACKETS}
   * - `"move"`: may put packets elsewhere, and may take out what the server has read
   */
  readonly effect: "look" | "store" | "remove" | "move";
}

/** What a command works on. */
export interface CommandPlaces {
  readonly queue: string;
  readonly remote: string;
  readonly output: string;
}

/** What a command made of its arguments. */
export interface Outcome {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

/** The packet that commands add. */
export const ADDED = "added by the fuzzer\n";
/** How many packets `remove` takes out at the most. */
export const REMOVED_PACKETS = 2;

/** With none, a reset would take what is acknowledged and not read yet. */
const HOLD = "300ms";
const IMPORTED = JSON.stringify({ payload: new TextEncoder().encode(ADDED).toBase64() });
const look = (...words: string[]): FuzzedCommand => ({
  name: words.join(" "),
  args: ({ queue }) => [...words, "-q", queue],
  effect: "look",
});

/** Every command that takes a queue. */
export const COMMANDS: readonly FuzzedCommand[] = [
  look("list", "--limit", "0"),
  look("list", "--preview", "--json"),
  look("list", "--dead", "--json"),
  look("show", "1"),
  look("show", "5", "--json"),
  look("show", "2", "--dead"),
  look("export", "--format", "raw"),
  look("export", "--dead"),
  look("check"),
  look("status"),
  look("status", "--json"),
  { name: "backup", args: ({ queue, output }) => ["backup", "-q", queue, output], effect: "look" },
  { name: "repair", args: ({ queue, output }) => ["repair", queue, output], effect: "look" },
  {
    name: "enqueue",
    args: ({ queue }) => ["enqueue", "-q", queue, ADDED.trimEnd()],
    effect: "store",
  },
  {
    name: "import",
    args: ({ queue }) => ["import", "-q", queue],
    input: IMPORTED,
    effect: "store",
  },
  {
    name: "remove",
    args: ({ queue }) => ["remove", "-q", queue, "--yes", "3-4"],
    effect: "remove",
  },
  {
    name: "remove --dead",
    args: ({ queue }) => ["remove", "-q", queue, "--yes", "--dead", "1-2"],
    effect: "remove",
  },
  { name: "requeue", args: ({ queue }) => ["requeue", "-q", queue, "--all"], effect: "move" },
  {
    name: "send",
    args: ({ queue, remote }) => [
      ...["send", remote, "-q", queue, "--hold", HOLD, "--deliver-timeout", "100ms"],
      ...["--backoff-cap", "100ms"],
    ],
    effect: "move",
  },
];

/** Runs a command. */
export async function runCommand(
  main: Main,
  command: FuzzedCommand,
  places: CommandPlaces,
): Promise<Outcome> {
  let given = new TextEncoder().encode(command.input ?? "");
  const [stdout, stderr] = [new Heard(), new Heard()];
  const code = await main(command.args(places), {
    stdin: {
      read(buffer: Uint8Array): Promise<number | null> {
        const part = given.subarray(0, buffer.length);
        given = given.subarray(part.length);
        buffer.set(part);
        return Promise.resolve(part.length === 0 ? null : part.length);
      },
      isTerminal: () => false,
    },
    stdout,
    stderr,
  });
  return { code, out: stdout.text, err: stderr.text };
}

/** What is printed, kept. */
class Heard {
  text = "";
  readonly isTerminal = (): boolean => false;
  readonly #decoder = new TextDecoder();

  write(part: Uint8Array): Promise<number> {
    return Promise.resolve(this.writeSync(part));
  }

  writeSync(part: Uint8Array): number {
    this.text += this.#decoder.decode(part, { stream: true });
    return part.length;
  }
}

/** A server on loopback that reads everything. */
export class ReadingServer implements AsyncDisposable {
  readonly #listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  readonly #connections = new Set<Deno.TcpConn>();
  readonly #readings: Promise<void>[] = [];
  readonly #serving: Promise<void>;
  /** What each connection brought. */
  readonly texts: string[] = [];

  constructor() {
    this.#serving = this.#serve();
  }

  get remote(): string {
    return `tcp://127.0.0.1:${this.#listener.addr.port}`;
  }

  async #serve(): Promise<void> {
    for await (const connection of connectionsOf(this.#listener)) {
      const index = this.texts.push("") - 1;
      this.#readings.push(this.#read(connection, index));
    }
  }

  /** Resolves once every connection has ended: its client has gone. */
  async ended(): Promise<void> {
    await Promise.all(this.#readings);
  }

  async #read(connection: Deno.TcpConn, index: number): Promise<void> {
    this.#connections.add(connection);
    const decoder = new TextDecoder();
    const buffer = new Uint8Array(64 * 1024);
    for (;;) {
      // Whichever way it ends, what was read counts.
      const bytes = await connection.read(buffer).catch(() => null);
      if (bytes === null) break;
      this.texts[index] += decoder.decode(buffer.subarray(0, bytes), { stream: true });
    }
    if (this.#connections.delete(connection)) connection.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#listener.close();
    for (const connection of this.#connections) {
      this.#connections.delete(connection);
      connection.close();
    }
    await this.#serving;
    await this.ended();
  }
}
