/**
 * The `send` command as a process, with the permissions that its help names.
 *
 * @module
 */

import { isSpoolAddress, parseSpoolAddress, reportsPathOf } from "../src/spool/address.ts";
import { libcCandidates } from "../src/kernel/libc.ts";
import { libsslCandidates } from "../src/kernel/library_paths.ts";
import type { Spawn } from "./child.ts";
import { COMMAND, CommandProcess } from "./command_process.ts";
import type { LogEvent } from "./sender_log.ts";

/** How to start a {@linkcode SenderProcess}. */
export interface SenderProcessOptions {
  readonly spawn: Spawn;
  /** What stands in front of the command, such as `["env", "A=b"]`. */
  readonly wrapper?: readonly string[];
  /** Its queue's file, or the address of one in a database. */
  readonly queue: string;
  /** What it connects to besides the server, such as `"192.0.2.1:5432"`. @default nothing */
  readonly net?: readonly string[];
  /** `"192.0.2.1:4000"`, several with commas between them, or `"unix:/run/app.sock"`. */
  readonly server: string;
  /** The proxy that it goes through. */
  readonly via?: string;
  /** Speaks TLS, and trusts the authority whose certificate is in this file. */
  readonly tlsCa?: string;
  /** Further flags of `send`. */
  readonly flags?: readonly string[];
  /** Told of each log line as it comes. */
  readonly onEvent?: (event: LogEvent) => void;
}

/** What a sender reads and writes of its queue. */
function filesOf(queue: string): string[] {
  if (queue.startsWith("postgres:")) return [];
  if (!isSpoolAddress(queue)) return [queue, `${queue}.lock`];
  const { file } = parseSpoolAddress(queue);
  return [file, `${file}.lock`, reportsPathOf(file)];
}

/** A running `send`. */
export class SenderProcess extends CommandProcess {
  /** Starts it. */
  constructor(options: SenderProcessOptions) {
    const { spawn, wrapper = [], queue, server, via, tlsCa, flags = [], onEvent } = options;
    const isUnix = server.startsWith("unix:");
    const scheme = tlsCa === undefined ? "tcp" : "tls";
    const remote = isUnix ? server : `${scheme}://${server.replaceAll(",", `,${scheme}://`)}`;
    const files = [
      ...filesOf(queue),
      ...(isUnix ? [server.slice("unix:".length)] : []),
    ];
    const toRead = [...files, ...(tlsCa === undefined ? [] : [tlsCa])];
    const libraries = [...libcCandidates(), ...(tlsCa === undefined ? [] : libsslCandidates())];
    const first = via === undefined ? server : new URL(via.replace(/^\w+/, "tcp")).host;
    const net = [first, ...options.net ?? []].join(",");
    const command = [
      ...wrapper,
      ...[Deno.execPath(), "run", "--quiet", "--no-prompt", `--allow-net=${net}`],
      ...(toRead.length === 0 ? [] : [`--allow-read=${toRead.join(",")}`]),
      ...(files.length === 0 ? [] : [`--allow-write=${files.join(",")}`]),
      `--allow-ffi=${libraries.map(({ path }) => path).join(",")}`,
      ...[COMMAND, "send", remote, `--queue=${queue}`],
      // The certificate of the laboratory is for this name.
      ...(tlsCa === undefined ? [] : [`--tls-ca=${tlsCa}`, "--tls-server-name=localhost"]),
      ...["--log-format=json", "--verbose", "--status-interval=0s"],
      ...(via === undefined ? [] : [`--via=${via}`]),
      ...flags,
    ];
    super({ spawn, command, onEvent });
  }
}
