/**
 * One seed: a queue is made, damaged, and given to every command, each with files
 * of its own. Checked is, of each command, that
 *
 * 1. its exit code is a documented one, and nobody throws what nobody expects,
 * 2. what only looks leaves the files as they are, byte by byte, and so does
 *    everything where the queue cannot be opened,
 * 3. what is delivered or saved was stored, byte by byte,
 * 4. what could be read before can be read or saved afterwards, or the server has it,
 *
 * and that a repair saves all that does not lie on a damaged page, and whatever SQLite
 * can read.
 *
 * @module
 */

import { QueueFileError } from "../mod.ts";
import { OutboundQueue } from "../src/queue/queue.ts";
import { ExitCode } from "../src/cli/terminal/exit_code.ts";
import { SeededRandom } from "../simulation/random.ts";
import {
  ADDED,
  type CommandPlaces,
  COMMANDS,
  type FuzzedCommand,
  type Main,
  type Outcome,
  ReadingServer,
  REMOVED_PACKETS,
  runCommand,
} from "./commands.ts";
import { type Damage, damage } from "./damage.ts";
import { copyQueue, makeSpecimen, type Specimen } from "./specimen.ts";
import {
  type Content,
  contentOf,
  fingerprintOf,
  linesOf,
  type PageContent,
  pageContentOf,
  readableIn,
  survivorsIn,
  textsIn,
} from "./witness.ts";

/** What a command ended with. */
export interface CommandReport {
  readonly command: string;
  readonly code: number;
  /** The last line on stderr. */
  readonly words: string;
}

/** What came of a seed. */
export interface SeedReport {
  readonly seed: number;
  /** The queue, and what was done to it. */
  readonly what: string;
  readonly commands: readonly CommandReport[];
  /** What must not be; empty: all is well. */
  readonly violations: readonly string[];
}

/** How to run a seed. */
export interface RunOptions {
  /** The command. */
  readonly main: Main;
  /** Runs only the commands whose names begin so. */
  readonly only?: string;
  /**
   * Told of each command before it runs.
   *
   * @param what The queue, and what was done to it.
   */
  readonly onCommand?: (name: string, what: string) => void;
}

const EXIT_CODES: readonly number[] = [
  ExitCode.DONE,
  ExitCode.FAILED,
  ExitCode.USAGE,
  ExitCode.PACKETS_KEPT,
];
/** What only a fault of the program prints. The last is how a stack begins. */
const UNTYPED =
  /unexpected|uncaught|undefined|\bNaN\b|\[object |(Type|Range|Syntax|Reference)Error|\n\s+at /i;

/** Runs a seed; everything that it makes is removed again. */
export async function runSeed(seed: number, options: RunOptions): Promise<SeedReport> {
  const directory = await Deno.makeTempDir({ prefix: "sendq-fuzz-" });
  const run = new Run(seed, directory, options);
  try {
    return await run.run();
  } catch (error) {
    // Not of a command, or not in its own words.
    const words = error instanceof Error ? error.stack ?? error.message : String(error);
    return { seed, what: "", commands: [], violations: [`an error was thrown: ${words}`] };
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

class Run {
  readonly #violations: string[] = [];
  readonly #seed: number;
  readonly #directory: string;
  readonly #options: RunOptions;
  /** Of the packets and dead letters that were there, those that SQLite can still read. */
  #readable: ReadonlySet<string> = new Set();
  /** Every packet that ever was, as it was. */
  #stored: ReadonlySet<string> = new Set();

  constructor(seed: number, directory: string, options: RunOptions) {
    this.#seed = seed;
    this.#directory = directory;
    this.#options = options;
  }

  async run(): Promise<SeedReport> {
    const random = new SeededRandom(this.#seed);
    const path = `${this.#directory}/damaged.db`;
    const specimen = await makeSpecimen(path, random.fork());
    this.#stored = new Set(specimen.stored.values());
    const [whole, pages] = await this.#lookAt(path);
    const done = damage(path, random.fork());
    const what = wordsOf(specimen, whole, done);
    const live = new Set([...whole.packets.values(), ...whole.letters.values()]);
    const saved = survivorsIn(path);
    this.#readable = readableIn(path).intersection(live);
    this.#checkSaved(saved, whole, pages, done);
    const refused = await this.#isRefused(path);
    const commands: CommandReport[] = [];
    for (const [index, command] of COMMANDS.entries()) {
      if (!command.name.startsWith(this.#options.only ?? "")) continue;
      this.#options.onCommand?.(command.name, what);
      const queue = `${this.#directory}/${index}.db`;
      copyQueue(path, queue);
      const outcome = await this.#check(command, queue, refused);
      const words = outcome.err.trimEnd().split("\n").at(-1) ?? "";
      commands.push({ command: command.name, code: outcome.code, words });
    }
    return { seed: this.#seed, what, commands, violations: this.#violations };
  }

  /** On a copy: to look makes a file beside it. */
  async #lookAt(path: string): Promise<[Content, PageContent]> {
    const copy = `${this.#directory}/whole.db`;
    copyQueue(path, copy);
    return [await contentOf(copy), pageContentOf(copy)];
  }

  /** What can be read has to be saved, and what lies on no damaged page. */
  #checkSaved(
    saved: ReadonlySet<string>,
    whole: Content,
    pages: PageContent,
    { kind, pages: damaged }: Damage,
  ): void {
    const missed = this.#readable.difference(saved);
    // Who changes rows by SQL may have removed or replaced any of them.
    if (kind !== "sql" && missed.size > 0) {
      this.#violate("repair", `does not save ${missed.size} packets that SQLite can read`);
    }
    if (damaged === undefined) return;
    const lost = (ids: ReadonlyMap<number, string>, where: PageContent["packets"]) => {
      const harmed = new Set([...damaged].flatMap((page) => where.get(page) ?? []));
      return [...ids].filter(([id, text]) => !harmed.has(id) && !saved.has(text))
        .map(([id]) => id);
    };
    const packets = lost(whole.packets, pages.packets);
    const letters = lost(whole.letters, pages.letters);
    if (packets.length > 0) this.#violate("repair", `loses sound packets, ids ${packets}`);
    if (letters.length > 0) this.#violate("repair", `loses sound dead letters, ids ${letters}`);
  }

  /** Whether the queue cannot even be opened to write. */
  async #isRefused(path: string): Promise<boolean> {
    const copy = `${this.#directory}/opened.db`;
    copyQueue(path, copy);
    try {
      await (await OutboundQueue.open(copy)).close();
      return false;
    } catch (error) {
      if (!(error instanceof QueueFileError)) this.#violate("open", `throws ${String(error)}`);
      return true;
    }
  }

  async #check(command: FuzzedCommand, queue: string, refused: boolean): Promise<Outcome> {
    await using server = new ReadingServer();
    const places = { queue, remote: server.remote, output: `${queue}.out` };
    const before = fingerprintOf(queue);
    const outcome = await runCommand(this.#options.main, command, places);
    await server.ended();
    const { name, effect } = command;
    this.#checkWords(name, outcome);
    if ((effect === "look" || refused) && fingerprintOf(queue) !== before) {
      this.#violate(name, `changes the file${refused ? ", which is refused" : ""}`);
    }
    this.#checkTruth(name, outcome, places, server.texts);
    if (effect === "look") return outcome;
    const left = survivorsIn(queue).union(readableIn(queue));
    const gone = this.#readable.difference(left)
      .difference(new Set(server.texts.flatMap(linesOf)));
    if (gone.size > (effect === "remove" ? REMOVED_PACKETS : 0)) {
      const [first] = gone;
      this.#violate(name, `destroys ${gone.size} packets, the first ${excerpt(first)}`);
    }
    if (effect === "store" && outcome.code === ExitCode.DONE && !left.has(ADDED)) {
      this.#violate(name, "says that it has stored a packet, which is not there");
    }
    return outcome;
  }

  #checkWords(name: string, { code, out, err }: Outcome): void {
    if (!EXIT_CODES.includes(code)) this.#violate(name, `exits with ${code}`);
    if (code !== ExitCode.DONE && (out + err).trim() === "") {
      this.#violate(name, `exits with ${code}, and does not say why`);
    }
    const [untyped] = UNTYPED.exec(out) ?? UNTYPED.exec(err) ?? [];
    if (untyped !== undefined) {
      const line = (out + err).split("\n").find((one) => UNTYPED.test(one));
      this.#violate(name, `says ${untyped.trim()}: ${line ?? ""}`);
    }
  }

  /** Nothing is delivered or saved that was not stored like that. */
  #checkTruth(
    name: string,
    { code, out }: Outcome,
    { output }: CommandPlaces,
    received: readonly string[],
  ): void {
    const untrue = (texts: Iterable<string>) => [...texts].find((text) => !this.#stored.has(text));
    for (const text of received) {
      // The last one may be cut off with its connection.
      const lines = linesOf(text);
      const rest = text.slice(lines.join("").length);
      const wrong = untrue(lines) ??
        ([...this.#stored].some((whole) => whole.startsWith(rest)) ? undefined : rest);
      if (wrong !== undefined) this.#violate(name, `sends what nobody stored: ${excerpt(wrong)}`);
    }
    if (code !== ExitCode.DONE) return;
    if (name.startsWith("export --format raw")) {
      const wrong = untrue(linesOf(out));
      if (wrong !== undefined) this.#violate(name, `gives what nobody stored: ${excerpt(wrong)}`);
    } else if (name === "repair" || name === "backup") {
      const wrong = untrue(textsIn(output, "packets"));
      if (wrong !== undefined) this.#violate(name, `saves what nobody stored: ${excerpt(wrong)}`);
    }
  }

  #violate(name: string, words: string): void {
    this.#violations.push(`${name} ${words}`);
  }
}

function wordsOf({ layout, stored }: Specimen, { packets, letters }: Content, { what }: Damage) {
  return `${packets.size} packets and ${letters.size} dead letters of ${stored.size} stored, ` +
    `${layout}; ${what}`;
}

function excerpt(text: string | undefined): string {
  return JSON.stringify((text ?? "").slice(0, 40));
}
