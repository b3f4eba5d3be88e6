/**
 * The command `sendq`. Run it with the permissions that the sub-command's help
 * names:
 *
 * ```sh
 * producer | deno run --allow-net=192.0.2.7:4000 \
 *   --allow-read=outbox.db,outbox.db.lock --allow-write=outbox.db,outbox.db.lock \
 *   --allow-ffi=/lib/x86_64-linux-gnu/libc.so.6 \
 *   jsr:@sendq/sendq/cli send tcp://192.0.2.7:4000 --queue outbox.db
 * ```
 *
 * @module
 */

import { Command, CommanderError, Option } from "commander";
import denoJson from "../../deno.json" with { type: "json" };
import { writeAllSync } from "../base/write_all.ts";
import { backupCommand } from "./commands/backup.ts";
import { checkCommand } from "./commands/check.ts";
import { enqueueCommand } from "./commands/enqueue.ts";
import { exportCommand } from "./commands/export.ts";
import { importCommand } from "./commands/import.ts";
import { listCommand } from "./commands/list.ts";
import { probeCommand } from "./commands/probe.ts";
import { relayCommand } from "./commands/relay.ts";
import { removeCommand, requeueCommand } from "./commands/remove.ts";
import { repairCommand } from "./commands/repair.ts";
import { runCommand } from "./route/run_command.ts";
import { sendCommand } from "./commands/send.ts";
import { showCommand } from "./commands/show.ts";
import { statusCommand } from "./commands/status.ts";
import { EXIT_CODE_HELP, ExitCode, exitCodeOf, explain, UsageError } from "./terminal/exit_code.ts";
import { colorsWelcome } from "./terminal/output.ts";
import type { StandardInput, StandardOutput, Stdio } from "./terminal/stdio.ts";

export type { StandardInput, StandardOutput, Stdio };

const DESCRIPTION = "Gets bytes safely to a TCP server that cannot acknowledge.";

const HELP = `
Example:
  producer | sendq send tcp://192.0.2.7:4000 --queue outbox.db

Completions, for an installed sendq; also zsh and fish:
  source <(sendq complete bash)

${EXIT_CODE_HELP}
`;

/** Each makes one sub-command and is told where its exit code goes, and where it prints. */
const COMMANDS: readonly ((finish: (code: ExitCode) => void, io: Stdio) => Command)[] = [
  sendCommand,
  relayCommand,
  runCommand,
  enqueueCommand,
  statusCommand,
  probeCommand,
  listCommand,
  showCommand,
  exportCommand,
  importCommand,
  removeCommand,
  requeueCommand,
  backupCommand,
  checkCommand,
  repairCommand,
];

/**
 * Runs the command.
 *
 * @param args The arguments, without the program's name.
 * @param io Where it reads and prints; without it, the process's own streams.
 * @returns The exit code.
 */
export async function main(args: readonly string[], io: Stdio = Deno): Promise<number> {
  let code: ExitCode = ExitCode.DONE;
  const program = buildProgram((finished) => code = finished, io);
  try {
    if (args[0] === "complete") await addCompletions(program);
    else await takeRouteFile(program, args);
    // Without a command, help is an answer and not a complaint.
    await program.parseAsync(args.length === 0 ? ["help"] : [...args], { from: "user" });
    return code;
  } catch (error) {
    if (error instanceof CommanderError) {
      return error.exitCode === 0 ? ExitCode.DONE : ExitCode.USAGE;
    }
    let words = `sendq: ${explain(error)}\n`;
    if (error instanceof UsageError) words += `${hintFor(args[0], io)}\n`;
    else if (args.includes("--verbose") && error instanceof Error) words += `${error.stack}\n`;
    try {
      write(io.stderr, words);
    } catch {
      // A log on a full disk: the exit code still says it.
    }
    return exitCodeOf(error);
  }
}

function buildProgram(finish: (code: ExitCode) => void, io: Stdio): Command {
  const program = configure(new Command("sendq"), hintFor(undefined, io), io)
    .description(DESCRIPTION)
    .version(denoJson.version, "-V, --version", "print the version")
    .helpCommand("help [command]", "print the help of a command")
    .addHelpText("after", HELP);
  for (const make of COMMANDS) {
    const command = make(finish, io);
    if (!WITHOUT_ROUTE.has(command.name())) {
      for (const [flags, help] of ROUTE_OPTIONS) {
        command.addOption(new Option(flags, help).helpGroup("Route file:"));
      }
    }
    program.addCommand(configure(command, hintFor(command.name(), io), io));
  }
  return program;
}

/** Commands to which a route file has nothing to say, or more than options. */
const WITHOUT_ROUTE: ReadonlySet<string> = new Set(["repair", "run"]);

const ROUTE_OPTIONS = [
  ["--config <file>", "a route file for what is not given here; see sendq run --help"],
  ["--route <name>", "which of its routes, where there are several"],
] as const;

/**
 * `--config`: fills in what the command line does not give, before it is parsed. Loaded
 * only where it is given.
 */
async function takeRouteFile(program: Command, args: readonly string[]): Promise<void> {
  const path = valueOf("--config", args);
  const command = program.commands.find((known) => known.name() === args[0]);
  if (path === undefined || command === undefined || WITHOUT_ROUTE.has(command.name())) return;
  const { configure } = await import("./route/load.ts");
  await configure(command, path, valueOf("--route", args));
}

/** What follows a flag, the last time that it is given. */
function valueOf(flag: string, args: readonly string[]): string | undefined {
  const end = args.indexOf("--");
  const own = end < 0 ? args : args.slice(0, end);
  const at = own.findLastIndex((arg) => arg === flag || arg.startsWith(`${flag}=`));
  const given = own[at];
  return given?.startsWith(`${flag}=`) ? given.slice(flag.length + 1) : given && own[at + 1];
}

/**
 * `sendq complete <shell>` prints a script for a shell, which then asks
 * `sendq complete -- <words>`. Loaded only then: it is no part of any other command.
 */
async function addCompletions(program: Command): Promise<void> {
  const { default: addCompleteCommand } = await import("@bomb.sh/tab/commander");
  addCompleteCommand(program);
}

/** What all commands share. Every setting that commander would ask the environment for is given. */
function configure(command: Command, hint: string, io: Stdio): Command {
  return command
    .exitOverride()
    .helpOption("-h, --help", "print this help")
    .showHelpAfterError(hint)
    .configureOutput({
      writeOut: (text) => write(io.stdout, text),
      writeErr: (text) => write(io.stderr, text),
      outputError: (text, writeErr) => {
        writeErr(`${text.replace(/^error: /, "sendq: ").trimEnd().replaceAll("\n", " ")}\n`);
      },
      getOutHelpWidth: () => 88,
      getErrHelpWidth: () => 88,
      getOutHasColors: () => false,
      getErrHasColors: () => colorsWelcome(io.stderr),
    });
}

function hintFor(name: string | undefined, io: Stdio): string {
  const command = COMMANDS.map((make) => make(() => {}, io)).find((made) => made.name() === name);
  return command === undefined
    ? "Usage: sendq <command> [options]; see sendq help"
    : `Usage: sendq ${name} ${command.usage()}; see sendq ${name} --help`;
}

function write(sink: StandardOutput, text: string): void {
  const bytes = new TextEncoder().encode(text);
  try {
    writeAllSync(sink, bytes);
  } catch (error) {
    // Nobody reads it: `sendq help | head -1`.
    if (!(error instanceof Deno.errors.BrokenPipe)) throw error;
  }
}

// The exit is explicit because a read of stdin under way would hold the process.
if (import.meta.main) Deno.exit(await main(Deno.args));
