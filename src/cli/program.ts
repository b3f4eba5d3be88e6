/** The program that commander runs: every command, what they share, and their help. */

import { type Argument, Command, CommanderError, Option } from "commander";
import denoJson from "../../deno.json" with { type: "json" };
import { EXIT_CODE_HELP, ExitCode, UsageError } from "./terminal/exit_code.ts";
import { colorsWelcome, complain, printTextSync } from "./terminal/output.ts";
import { printable, withoutPasswords } from "./terminal/figures.ts";
import type { Stdio } from "./terminal/stdio.ts";

const DESCRIPTION = "Gets bytes safely to a TCP server that cannot acknowledge.";

const HELP = `
Example:
  producer | sendq send tcp://192.0.2.7:4000 --queue outbox.db

Completions of commands, options, their words and files, for an installed sendq;
also zsh and fish, and in bash with or without the package bash-completion:
  source <(sendq complete bash)

${EXIT_CODE_HELP}
`;

/** Makes one sub-command, and is told where its exit code goes, and where it prints. */
type MakeCommand = (finish: (code: ExitCode) => void, io: Stdio) => Command;

/** In the order of the help. Each is loaded when it is asked for: who enqueues waits for no page. */
const COMMANDS: ReadonlyMap<string, () => Promise<MakeCommand>> = new Map([
  ["send", async () => (await import("./commands/send.ts")).sendCommand],
  ["relay", async () => (await import("./commands/relay.ts")).relayCommand],
  ["forward", async () => (await import("./commands/forward.ts")).forwardCommand],
  ["run", async () => (await import("./route/run_command.ts")).runCommand],
  ["enqueue", async () => (await import("./commands/enqueue.ts")).enqueueCommand],
  ["status", async () => (await import("./commands/status.ts")).statusCommand],
  ["probe", async () => (await import("./commands/probe.ts")).probeCommand],
  ["list", async () => (await import("./commands/list.ts")).listCommand],
  ["show", async () => (await import("./commands/show.ts")).showCommand],
  ["export", async () => (await import("./commands/export.ts")).exportCommand],
  ["import", async () => (await import("./commands/import.ts")).importCommand],
  ["remove", async () => (await import("./commands/remove.ts")).removeCommand],
  ["requeue", async () => (await import("./commands/remove.ts")).requeueCommand],
  ["backup", async () => (await import("./commands/backup.ts")).backupCommand],
  ["check", async () => (await import("./commands/check.ts")).checkCommand],
  ["repair", async () => (await import("./commands/repair.ts")).repairCommand],
  ["spool", async () => (await import("./commands/spool.ts")).spoolCommand],
  ["postgres", async () => (await import("./commands/postgres.ts")).postgresCommand],
]);

/** Reads the arguments, and runs the command that they name. */
export async function runProgram(args: readonly string[], io: Stdio): Promise<ExitCode> {
  let code: ExitCode = ExitCode.DONE;
  const program = await buildProgram(args[0], (finished) => code = finished, io);
  using _printing = args[0] === "complete" ? consoleTo(io) : undefined;
  try {
    if (args[0] === "complete") await addCompletions(program, io);
    else await takeRouteFile(program, args);
    // Without a command, help is an answer and not a complaint.
    await program.parseAsync(args.length === 0 ? ["help"] : helpFor(args), { from: "user" });
    return code;
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    return error.exitCode === 0 ? ExitCode.DONE : ExitCode.USAGE;
  }
}

/** Of a command that does not exist commander gives no help, and says nothing: it is called instead. */
function helpFor(args: readonly string[]): string[] {
  const [first, name = ""] = args;
  const isKnown = COMMANDS.has(name) || name === "help" || name === "" || name.startsWith("-");
  return first === "help" && !isKnown ? [name] : [...args];
}

/** How a command is called, in a line; of all of them where it is none. */
export async function usageOf(name: string | undefined, io: Stdio): Promise<string> {
  const program = await buildProgram(name, () => {}, io);
  return usageHint(program.commands.find((command) => command.name() === name));
}

/** @param asked The first argument: with a command's name, the program has that command alone. */
async function buildProgram(
  asked: string | undefined,
  finish: (code: ExitCode) => void,
  io: Stdio,
): Promise<Command> {
  const program = configure(new Command("sendq"), usageHint(), io)
    .description(DESCRIPTION)
    .version(denoJson.version, "-V, --version", "print the version")
    .helpCommand("help [command]", "print the help of a command")
    .addHelpText("after", HELP);
  program.hook("preAction", (_, command) => refuseEmptyPaths(command));
  const loads = COMMANDS.get(asked ?? "");
  for (const load of loads === undefined ? COMMANDS.values() : [loads]) {
    const command = (await load())(finish, io);
    const hint = usageHint(command);
    if (!WITHOUT_ROUTE.has(command.name())) {
      for (const [flags, help] of ROUTE_OPTIONS) {
        command.addOption(new Option(flags, help).helpGroup("Route file:"));
      }
    }
    command.addHelpText("after", unitsOf(command));
    program.addCommand(configure(command, hint, io));
  }
  return program;
}

/** How the values of its options are written, where they have units. */
function unitsOf(command: Command): string {
  const takes = (what: string) => command.options.some(({ flags }) => flags.endsWith(what));
  const times = takes("<time>") ? "Times have a unit: 500ms, 3s, 2m, 1h, 1d." : "";
  const sizes = takes("<size>") ? "\nSizes may have one: 4096, 256KiB, 1MiB, 1GB." : "";
  return times + sizes;
}

/**
 * What scripts make of a variable that is not set.
 *
 * @throws {UsageError} A path is an empty text.
 */
function refuseEmptyPaths(command: Command): void {
  const given = [
    ...command.options.filter(takesPath).map((option) =>
      [option.long ?? "", command.getOptionValue(option.attributeName())] as const
    ),
    ...command.registeredArguments.map((argument, i) =>
      [argument.name(), takesPath(argument) ? command.processedArgs[i] : undefined] as const
    ),
  ];
  for (const [name, value] of given) {
    if (![value].flat().includes("")) continue;
    throw new UsageError(`${name} needs a path, and was given an empty text`);
  }
}

/** Whether an option or an argument is the path of a file, as its help calls it. */
function takesPath(given: Option | Argument): boolean {
  return given instanceof Option
    ? /<(file|path)>$/.test(given.flags)
    : ["file", "from", "to"].includes(given.name());
}

/** Commands to which a route file has nothing to say, or more than options. */
const WITHOUT_ROUTE: ReadonlySet<string> = new Set([
  "forward",
  "postgres",
  "repair",
  "run",
  "spool",
]);

const ROUTE_OPTIONS = [
  ["--config <file>", "a route file for what is not given here; see sendq run --help"],
  ["--route <name>", "which of its routes, where there are several"],
] as const;

/** `--config`: fills in what the command line does not give, before it is parsed. */
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
async function addCompletions(program: Command, io: Stdio): Promise<void> {
  const { default: addCompleteCommand } = await import("@bomb.sh/tab/commander");
  const completions = addCompleteCommand(program);
  let wantsFile = false;
  const handler = () => {
    wantsFile = true;
  };
  for (const command of program.commands) {
    const known = completions.commands.get(command.name());
    const named = [
      ...command.options.map((option) =>
        [option, known?.options.get(option.long?.slice(2) ?? "")] as const
      ),
      ...command.registeredArguments.map((argument) =>
        [argument, known?.arguments.get(argument.name())] as const
      ),
    ];
    for (const [given, completed] of named) {
      if (completed !== undefined && takesPath(given)) completed.handler = handler;
    }
  }
  // The library itself leaves nothing to the shell, ever.
  Object.defineProperty(completions, "directive", {
    get: () => wantsFile ? COMPLETE_FILES : COMPLETE_NO_FILES,
    set() {},
  });
  const setup = completions.setup.bind(completions);
  completions.setup = (name, executable, shell) => {
    setup(name, executable, shell);
    if (shell === "bash") printTextSync(io, BASH_COMPLETES_FILES);
  };
}

/** The library prints by `console.log`, which knows no other output, and fails in its own words. */
function consoleTo(io: Stdio): Disposable {
  const { log } = console;
  Object.assign(console, { log: (text: string) => printTextSync(io, `${text}\n`) });
  return {
    [Symbol.dispose]() {
      Object.assign(console, { log });
    },
  };
}

/** What the scripts take for a word where nothing was found: files, or nothing. */
const COMPLETE_FILES = 0;
const COMPLETE_NO_FILES = 4;

/** What the script for bash lacks: files, and what it takes from a package. */
const BASH_COMPLETES_FILES = `
complete -o default -F __sendq_complete sendq

# Without the package bash-completion: the words up to the cursor, as they were typed.
if ! declare -F _get_comp_words_by_ref > /dev/null; then
    _get_comp_words_by_ref() {
        local line=\${COMP_LINE:0:COMP_POINT}
        read -ra words <<< "$line"
        if [[ $line == *[[:space:]] ]]; then words+=(""); fi
        cword=$((\${#words[@]} - 1))
        cur=\${words[cword]}
        prev=\${words[cword - 1]}
    }
fi
`;

/** What all commands share. Every setting that commander would ask the environment for is given. */
function configure(command: Command, hint: string, io: Stdio): Command {
  const parseOptions = command.parseOptions.bind(command);
  command.parseOptions = (args) => {
    const parsed = parseOptions(args);
    // Told before what is missing, which the unknown one may be: commander would look at it last.
    if (parsed.unknown.length > 0) command.options.forEach((one) => one.makeOptionMandatory(false));
    return parsed;
  };
  return command
    .exitOverride()
    .helpOption("-h, --help", "print this help")
    .showHelpAfterError(hint)
    .configureOutput({
      writeOut: (text) => printTextSync(io, text),
      writeErr: (text) => complain(io, text),
      outputError: (text, writeErr) => {
        const words = text.replace(/^error: /, "sendq: ").trimEnd().replaceAll("\n", " ");
        writeErr(`${printable(withoutPasswords(words))}\n`);
      },
      // As wide as a terminal is; what is written by hand is no wider.
      getOutHelpWidth: () => 80,
      getErrHelpWidth: () => 80,
      getOutHasColors: () => false,
      getErrHasColors: () => colorsWelcome(io.stderr),
    });
}

function usageHint(command?: Command): string {
  return command === undefined
    ? "Usage: sendq <command> [options]; see sendq help"
    : `Usage: sendq ${command.name()} ${command.usage()}; see sendq ${command.name()} --help`;
}
