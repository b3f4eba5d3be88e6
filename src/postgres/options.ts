import { OptionError } from "../base/errors.ts";
import { QUEUE_OPTIONS } from "../base/option_table.ts";
import { checkFields } from "../base/options.ts";
import type { Logger } from "../base/ports.ts";
import type { QueueOptions } from "../queue/options.ts";
import {
  checkName,
  DURABILITIES,
  parseQueueUrl,
  type PostgresDurability,
  type QueueAddress,
  WEAKER,
  type Weaker,
} from "./address.ts";

export type { PostgresDurability, Weaker };

/** A value travels as hexadecimal digits, and has 1 GB at most. */
export const MAX_PACKET_BYTES: number = 64 * 1024 ** 2;

/**
 * A database's bell is rung at most this often. Each ring leaves a trace in the log that standbys
 * sync, and the next commit waits for that.
 */
export const RING_INTERVAL_MS = 50;

/**
 * A queue on PostgreSQL, and how it behaves.
 *
 * @category Queue
 */
export interface PostgresQueueOptions
  extends Omit<QueueOptions, "durability" | "syncIn" | "driver"> {
  /**
   * Where it is: `postgres://user:password@host:5432,other:5432/database/name`. With several
   * hosts the primary among them is found, again after each failover. `?sslmode=` takes
   * `disable`, `require` and `verify-full`, `&durability=` and `&weaker=` what the options
   * take.
   */
  readonly url: string;
  /**
   * The queue's name, where the URL does not have it.
   *
   * @default {undefined} the last part of the URL
   */
  readonly name?: string;
  /**
   * The password, where it shall not stand in a URL.
   *
   * @default {undefined} that of the URL, or none
   */
  readonly password?: string;
  /**
   * What a resolved enqueue survives. The database is asked in each transaction whether its
   * settings mean as much.
   *
   * @default {"machine-loss"} or what the URL says
   */
  readonly durability?: PostgresDurability;
  /**
   * What becomes of a packet where the database promises less than `durability`: `"refuse"`,
   * it is not stored; `"warn"`, it is stored all the same, and the log has a warning with what
   * is missing, at the start and each time that changes.
   *
   * @default {"refuse"} or what the URL says
   */
  readonly weaker?: Weaker;
  /**
   * How long a sender's right to send is good without being renewed, in milliseconds; at
   * least 500. After so long another sender takes over from one that has died. Shorter: a
   * failover of the sender is quicker, and a database that is slow for a moment interrupts
   * delivery sooner. Senders may have different ones: each waits for the longer one, that of the
   * sender that has the right or its own.
   *
   * @default {3000}
   */
  readonly leaseTtlMs?: number;
  /**
   * Whether a sender waits for its turn while another one sends.
   *
   * @default {true}
   */
  readonly standBy?: boolean;
  /**
   * After so many milliseconds without an answer a connection is given up, and the question
   * asked again over another one; at least 500. What has many bytes has the time that they take
   * besides, at 1 MiB/s or as slow as the path has been found to be, and what was given up twice
   * as long each time, up to an hour: so everything is answered some day.
   *
   * @default {5000}
   */
  readonly answerTimeoutMs?: number;
  /**
   * What others see of a sender of this queue: its name.
   *
   * @default {"process PID"}
   */
  readonly holder?: string;
  /** Takes log lines. Silent by default. */
  readonly logger?: Logger;
  /**
   * Called when a sender of this queue begins to wait for its turn, in words:
   * `"standing by: process 4711 sends from this queue"`; and each time when the words change,
   * also to those about a database that cannot be asked.
   */
  readonly onStandBy?: (words: string) => void;
}

/** Those that a file's queue has as well. */
const { durability: _, syncIn: __, ...SHARED } = QUEUE_OPTIONS;
const OTHERS: readonly (keyof PostgresQueueOptions)[] = [
  ...["url", "name", "password", "durability", "weaker", "leaseTtlMs", "standBy"] as const,
  ...["answerTimeoutMs", "holder", "logger", "onStandBy", "clock"] as const,
];

/**
 * Checks that there are no others than those of a queue on PostgreSQL.
 *
 * @throws {OptionError} There are, or they are no object.
 */
export function checkPostgresOptions(options: PostgresQueueOptions): void {
  checkFields("", options, [SHARED, ...OTHERS]);
}

/** The options that a file's queue does not have, all given. */
export interface PostgresSettings {
  readonly address: QueueAddress;
  readonly durability: PostgresDurability;
  readonly weaker: Weaker;
  readonly leaseTtlMs: number;
  readonly standBy: boolean;
  readonly answerTimeoutMs: number;
}

const DURATIONS = { leaseTtlMs: 3000, answerTimeoutMs: 5000 } as const;
const SHORTEST_MS = 500;
const LONGEST_MS = 600_000;

/**
 * Fills in the defaults and checks what was given.
 *
 * @throws {OptionError} A value is out of range, or contradicts another one.
 */
export function settingsOf(options: PostgresQueueOptions): PostgresSettings {
  const address = parseQueueUrl(options.url);
  const { durability = address.durability ?? "machine-loss", standBy = true } = options;
  if (!DURABILITIES.includes(durability)) {
    throw new OptionError("durability", durability, `must be one of ${DURABILITIES.join(", ")}`);
  }
  const { weaker = address.weaker ?? "refuse" } = options;
  if (!WEAKER.includes(weaker)) {
    throw new OptionError("weaker", weaker, `must be one of ${WEAKER.join(", ")}`);
  }
  if (typeof standBy !== "boolean") throw new OptionError("standBy", standBy, "must be a boolean");
  const durations = { ...DURATIONS };
  for (const name of ["leaseTtlMs", "answerTimeoutMs"] as const) {
    const value = options[name] ?? DURATIONS[name];
    if (!(value >= SHORTEST_MS && value <= LONGEST_MS)) {
      throw new OptionError(name, value, `must be from ${SHORTEST_MS} to ${LONGEST_MS}`);
    }
    Object.assign(durations, { [name]: value });
  }
  const name = checkName(options.name ?? address.name);
  if (name === "") {
    throw new OptionError("name", name, "must be given, or be the last part of the URL");
  }
  if (address.name !== "" && name !== address.name) {
    throw new OptionError("name", name, `contradicts the URL, which has ${address.name}`);
  }
  const password = options.password ?? address.password;
  return { address: { ...address, name, password }, durability, weaker, standBy, ...durations };
}
