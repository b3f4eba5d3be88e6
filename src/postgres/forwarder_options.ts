import { OptionError } from "../base/errors.ts";
import { FORWARDER_OPTIONS } from "../base/subpath_option_table.ts";
import { checkFields, type ResolvedOptions, resolveOptions } from "../base/options.ts";
import type { Clock, Logger, Random } from "../base/ports.ts";
import { checkQueueOptions, type QueueOptions } from "../queue/options.ts";
import type { PostgresDurability } from "./address.ts";
import { type PostgresQueueOptions, type PostgresSettings, settingsOf } from "./options.ts";

/**
 * Where an edge's packets go, and how.
 *
 * @category Queue
 */
export interface ForwarderOptions
  extends Pick<PostgresQueueOptions, "name" | "password" | "answerTimeoutMs"> {
  /** The cluster's queue, as for `postgresQueue`. */
  readonly url: string;
  /**
   * What people call this edge: by its name, which no other edge of the queue has, a file is
   * noticed that was removed and made anew. At most 200 characters, all of them printable; the
   * path of the edge's file unless given.
   */
  readonly edge?: string;
  /**
   * Forwards a file also where it contradicts what the cluster has from this edge, because it
   * was restored, copied or made anew: all that is in it. What of it was forwarded before is
   * stored twice.
   *
   * @default {false}
   */
  readonly asNew?: boolean;
  /**
   * The most packets that the cluster's queue may hold; while it is full, packets wait in the
   * edge's file. Give all producers of a queue the same.
   *
   * @default {10000000}
   */
  readonly maxPackets?: number;
  /**
   * The most bytes that the cluster's queue may hold; see
   * {@linkcode ForwarderOptions.maxPackets}. A packet that is larger becomes a dead letter of
   * the edge.
   *
   * @default {1073741824}
   */
  readonly maxBytes?: number;
  /**
   * What a packet survives once it has left the edge's file. A cluster that promises less gets
   * nothing.
   *
   * @default {"machine-loss"} or what the URL says
   */
  readonly durability?: PostgresDurability;
  /** Options for a queue given as a path; refused beside one that is open. */
  readonly queueOptions?: QueueOptions;
  /** Takes log lines. Silent by default. */
  readonly logger?: Logger;
  /** Time, for tests. */
  readonly clock?: Clock;
  /** Chance, for tests. */
  readonly random?: Random;
}

/** A warning is for packets that have nowhere else to be. */
const NO_WEAKER = "must be refuse for a forwarder: a cluster that promises less than durability " +
  "gets nothing, and packets wait in the edge's file";

/** The same, checked; those with a default are there. */
export interface ForwarderSettings
  extends
    ResolvedOptions<typeof FORWARDER_OPTIONS>,
    Pick<PostgresSettings, "address" | "durability" | "answerTimeoutMs"> {}

/** Those that no table has. */
const OTHERS: readonly (keyof ForwarderOptions)[] = [
  ...["url", "name", "password", "durability", "answerTimeoutMs", "queueOptions"] as const,
  ...["logger", "clock", "random"] as const,
];

/** @throws {OptionError} A value is out of range, or there is no such option. */
export function forwarderSettingsOf(options: ForwarderOptions): ForwarderSettings {
  checkFields("", options, [FORWARDER_OPTIONS, ...OTHERS]);
  if (options.queueOptions !== undefined) checkQueueOptions(options.queueOptions);
  const { url, name, password, durability, answerTimeoutMs } = options;
  const { address, ...settings } = settingsOf({
    url,
    ...(name === undefined ? {} : { name }),
    ...(password === undefined ? {} : { password }),
    ...(durability === undefined ? {} : { durability }),
    ...(answerTimeoutMs === undefined ? {} : { answerTimeoutMs }),
  });
  if (settings.weaker !== "refuse") throw new OptionError("weaker", settings.weaker, NO_WEAKER);
  const own = resolveOptions(FORWARDER_OPTIONS, options);
  const { edge } = own;
  if (edge !== undefined && (edge === "" || edge.length > 200 || /\p{Cc}/u.test(edge))) {
    throw new OptionError("edge", edge, "must have 1 to 200 characters, all of them printable");
  }
  return {
    address,
    durability: settings.durability,
    answerTimeoutMs: settings.answerTimeoutMs,
    ...own,
  };
}
