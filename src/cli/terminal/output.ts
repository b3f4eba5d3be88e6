/**
 * What a command writes: log lines and a live line on standard error, data on
 * standard output. Nobody who reads slowly, or has gone away, holds delivery up.
 */

import { BackgroundWriter, type ByteSink } from "../../base/background_writer.ts";
import { messageOf } from "../../base/errors.ts";
import { loggerOf } from "../../base/logger.ts";
import type { Logger } from "../../base/ports.ts";
import { writeAll, writeAllSync } from "../../base/write_all.ts";
import { CommandError } from "./exit_code.ts";
import { printable } from "./figures.ts";
import type { Stdio } from "./stdio.ts";

export type LogLevel = "debug" | "info" | "warn" | "error";

/**
 * Writes a line of data to standard output. Waits for the reader.
 *
 * @returns Whether somebody still reads: `sendq status --watch | head -1` ends with its reader.
 */
export function printLine(io: Stdio, line: string): Promise<boolean> {
  return printText(io, `${line}\n`);
}

/**
 * Writes what a command has done.
 *
 * @throws {CommandError} It cannot be written; the error has it, for whoever began anew because of
 *   that would do it twice.
 */
export async function printOutcome(io: Stdio, line: string): Promise<void> {
  try {
    await printLine(io, line);
  } catch (error) {
    throw unsaid(error, line);
  }
}

/** The error for what could not be written: it has what was done. */
export function unsaid(error: unknown, done: string): CommandError {
  return new CommandError(`${messageOf(error)}. What was done: ${done}`, { cause: error });
}

export function printText(io: Stdio, text: string): Promise<boolean> {
  return printBytes(io, new TextEncoder().encode(text));
}

/**
 * Writes data to standard output as it is.
 *
 * @returns Whether somebody still reads.
 * @throws {CommandError} It cannot be written: it is a file on a full disk.
 */
export async function printBytes({ stdout }: Stdio, bytes: Uint8Array): Promise<boolean> {
  try {
    await writeAll(stdout, bytes);
    return true;
  } catch (error) {
    return endOfReading(error);
  }
}

/** @returns False where the reader has gone. */
function endOfReading(error: unknown): false {
  if (error instanceof Deno.errors.BrokenPipe) return false;
  throw new CommandError(`stdout cannot be written: ${messageOf(error)}`, { cause: error });
}

const PRINT_BYTES = 64 * 1024;

/** Much data in large pieces. */
export class Printer {
  readonly #write: (bytes: Uint8Array) => Promise<boolean>;
  #buffer = new Uint8Array(PRINT_BYTES);
  #used = 0;
  #isRead = true;

  /** @param write Writes all of it; returns whether there is any use in more. */
  constructor(write: (bytes: Uint8Array) => Promise<boolean>) {
    this.#write = write;
  }

  static on(io: Stdio): Printer {
    return new Printer((bytes) => printBytes(io, bytes));
  }

  /** Takes a line, to be written soon. Returns whether somebody still reads. */
  line(line: string): Promise<boolean> {
    return this.bytes(new TextEncoder().encode(`${line}\n`));
  }

  /** Takes bytes, to be written soon. Returns whether somebody still reads. */
  async bytes(bytes: Uint8Array): Promise<boolean> {
    if (this.#used + bytes.length > PRINT_BYTES) await this.flush();
    if (bytes.length > PRINT_BYTES) {
      this.#isRead = this.#isRead && await this.#write(bytes);
    } else {
      this.#buffer.set(bytes, this.#used);
      this.#used += bytes.length;
    }
    return this.#isRead;
  }

  /** Writes what was taken. Returns whether somebody still reads. */
  async flush(): Promise<boolean> {
    if (this.#used === 0) return this.#isRead;
    this.#isRead = this.#isRead && await this.#write(this.#buffer.subarray(0, this.#used));
    this.#used = 0;
    return this.#isRead;
  }
}

export interface LogConsoleOptions {
  /** `json`: one object a line. */
  readonly format: "text" | "json";
  /** Lines below it are left out. */
  readonly level: LogLevel;
  /** Whether standard error is a terminal that shows a live line. */
  readonly live: boolean;
  readonly colors: boolean;
}

const LEVELS: readonly LogLevel[] = ["debug", "info", "warn", "error"];
const LEVEL_COLORS = { debug: 90, info: 36, warn: 33, error: 31 } as const;
const CLEAR_LINE = "\r\x1b[2K";
/** What paints a live line: ours alone, for others' text is made printable. */
const COLORS = /\p{Cc}\[[\d;]*m/gu;
const COLOR_OR_CHARACTER = new RegExp(`${COLORS.source}|.`, "gsu");

/** Standard error: log lines, and below them at most one live line. */
export class LogConsole implements Logger {
  readonly #options: LogConsoleOptions;
  readonly #writer: BackgroundWriter;
  readonly #wallMs: () => number;
  #level: LogLevel;
  #liveLine = "";
  /** Lines that were dropped and said to be. */
  #droppedSaid = 0;

  /** @param wallMs The time that lines carry. */
  constructor(
    options: LogConsoleOptions,
    sink: ByteSink,
    wallMs: () => number = Date.now,
  ) {
    this.#options = options;
    this.#level = options.level;
    this.#writer = new BackgroundWriter(sink);
    this.#wallMs = wallMs;
  }

  /** Writes to standard error, in colours where they are welcome. */
  static on({ stderr }: Stdio, options: Omit<LogConsoleOptions, "colors">): LogConsole {
    return new LogConsole({ ...options, colors: colorsWelcome(stderr) }, stderr);
  }

  get level(): LogLevel {
    return this.#level;
  }

  set level(level: LogLevel) {
    this.#level = level;
  }

  get live(): boolean {
    return this.#options.live;
  }

  debug(message: string, ...data: unknown[]): void {
    this.line("debug", message, fieldsOf(data));
  }

  info(message: string, ...data: unknown[]): void {
    this.line("info", message, fieldsOf(data));
  }

  warn(message: string, ...data: unknown[]): void {
    this.line("warn", message, fieldsOf(data));
  }

  error(message: string, ...data: unknown[]): void {
    this.line("error", message, fieldsOf(data));
  }

  /**
   * Writes a log line.
   *
   * @param fields What a program that reads JSON lines wants to know; text lines leave it out.
   */
  line(level: LogLevel, message: string, fields: Readonly<Record<string, unknown>> = {}): void {
    if (LEVELS.indexOf(level) < LEVELS.indexOf(this.#level)) return;
    this.#sayDropped();
    this.#put(level, message, fields);
  }

  #sayDropped(): void {
    const dropped = this.#writer.droppedWrites - this.#droppedSaid;
    // As long as something waits, there may be no room for this line either.
    if (dropped === 0 || this.#writer.waitingBytes > 0) return;
    this.#droppedSaid = this.#writer.droppedWrites;
    const lines = dropped === 1 ? "1 log line was" : `${dropped} log lines were`;
    this.#put("warn", `${lines} dropped before this one, for they could not be written`, {});
  }

  #put(level: LogLevel, message: string, fields: Readonly<Record<string, unknown>>): void {
    const time = new Date(this.#wallMs()).toISOString();
    const line = this.#options.format === "json"
      ? JSON.stringify({ time, level, message, ...fields })
      : `${time} ${this.#paint(level)} ${printable(message)}`;
    this.#writer.write(
      this.#liveLine === "" ? `${line}\n` : `${CLEAR_LINE}${line}\n${this.#liveLine}`,
    );
  }

  /** Puts another live line in the place of the last; cut to the terminal's width. */
  showLive(line: string): void {
    if (!this.#options.live) return;
    this.#liveLine = fit(this.#options.colors ? line : line.replaceAll(COLORS, ""), columns());
    this.#writer.write(CLEAR_LINE + this.#liveLine);
  }

  endLive(): void {
    if (this.#liveLine === "") return;
    this.#liveLine = "";
    this.#writer.write(CLEAR_LINE);
  }

  /** Resolves once all lines are written, or cannot be. */
  async flushed(): Promise<void> {
    await this.#writer.flushed();
    this.#sayDropped();
    await this.#writer.flushed();
  }

  #paint(level: LogLevel): string {
    const word = level.padEnd(5);
    return this.#options.colors ? `\x1b[${LEVEL_COLORS[level]}m${word}\x1b[0m` : word;
  }
}

/** A log to which one of several routes writes. */
export interface RouteLog extends Logger {
  line(level: LogLevel, message: string, fields?: Readonly<Record<string, unknown>>): void;
}

/** The log of one route among several: lines begin with its name, and have it as a field. */
export function logOf(log: LogConsole, route: string): RouteLog {
  const line: RouteLog["line"] = (level, message, fields = {}) =>
    log.line(level, `${route}: ${message}`, { route, ...fields });
  return { line, ...loggerOf((level, message, data) => line(level, message, fieldsOf(data))) };
}

/** Whether colours are welcome: a terminal, and no NO_COLOR. Needs no permission. */
export function colorsWelcome(where: { isTerminal(): boolean }): boolean {
  return where.isTerminal() && !Deno.noColor;
}

function fieldsOf(data: readonly unknown[]): Record<string, unknown> {
  if (data.length === 0) return {};
  const printable = data.map((item) => item instanceof Error ? item.message : item);
  return { data: printable };
}

export function columns(): number {
  try {
    // A terminal that does not know its size says 0.
    return Deno.consoleSize().columns || 80;
  } catch {
    return 80;
  }
}

/** Cuts a line to fewer characters than the terminal is wide, colours not counted. */
function fit(line: string, width: number): string {
  let room = width - 1;
  return line.replaceAll(
    COLOR_OR_CHARACTER,
    (part) => part.startsWith("\x1b") || room-- > 0 ? part : "",
  );
}

/** How many rows of a terminal a line takes, colours not counted. */
export function rowsOf(line: string): number {
  return Math.max(1, Math.ceil([...line.replaceAll(COLORS, "")].length / columns()));
}

/**
 * Writes a text to standard output at once, for somebody who may be gone: `sendq help | head -1`.
 *
 * @throws {CommandError} It cannot be written.
 */
export function printTextSync({ stdout }: Stdio, text: string): void {
  try {
    writeAllSync(stdout, new TextEncoder().encode(text));
  } catch (error) {
    endOfReading(error);
  }
}

/** Writes a text to standard error at once. Where it cannot be written, the exit code still says it. */
export function complain({ stderr }: Stdio, text: string): void {
  try {
    writeAllSync(stderr, new TextEncoder().encode(text));
  } catch {
    // A log on a full disk, or nobody who reads it.
  }
}
