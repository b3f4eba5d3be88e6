/**
 * One seed: a queue is made, damaged, and given to every command, each with files
 * of its own. Checked is, of each command, that
 *
 * 1. its exit code is a documented one, and nobody throws what nobody expects,
 * 2. what only looks leaves the files as they are, byte by byte, and so does
 *    everything where the queue cannot be opened,
 * 3. what is delivered or saved was stored, byte by byte,
 * 4. what could be saved before can be saved afterwards, or the server has it,
 *
 * and that a repair saves all that does not lie on a damaged page, and whatever the
 * other commands can read.
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
  survivorsIn,
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
  try {
    return await new Run(seed, directory, options).run();
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

class Run {
  readonly #violations: string[] = [];
  readonly #seed: number;
  readonly #directory: string;
  readonly #options: RunOptions;
  /** Of the packets and dead letters that were there, those that a repair still saves. */
  #survivors: ReadonlySet<string> = new Set();
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
    this.#survivors = survivorsIn(path).intersection(live);
    this.#checkSaved(whole, pages, done);
    const refused = await this.#isRefused(path);
    const commands: CommandReport[] = [];
    for (const [index, command] of COMMANDS.entries()) {
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

  /** What lies on no damaged page has to be saved. */
  #checkSaved(whole: Content, pages: PageContent, { pages: damaged }: Damage): void {
    if (damaged === undefined) return;
    const lost = (ids: ReadonlyMap<number, string>, where: PageContent["packets"]) => {
      const harmed = new Set([...damaged].flatMap((page) => where.get(page) ?? []));
      return [...ids].filter(([id, text]) => !harmed.has(id) && !this.#survivors.has(text))
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
    await this.#checkTruth(name, outcome, places, server.texts);
    if (effect === "look") return outcome;
    const left = survivorsIn(queue);
    const received = new Set(server.texts.flatMap(linesOf));
    const gone = [...this.#survivors].filter((text) => !left.has(text) && !received.has(text));
    if (gone.length > (effect === "remove" ? REMOVED_PACKETS : 0)) {
      this.#violate(name, `destroys ${gone.length} packets, the first ${excerpt(gone[0])}`);
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
  async #checkTruth(
    name: string,
    { code, out }: Outcome,
    { output }: CommandPlaces,
    received: readonly string[],
  ): Promise<void> {
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
      const { packets } = await contentOf(output);
      const wrong = untrue(packets.values());
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
