/**
 * Who may send from a queue in a database.
 *
 * @category Status
 */
export interface LeaseStats {
  /** Who: the name that the sender has given itself. */
  readonly holder: string;
  /** How many tenures there were, with this one. */
  readonly epoch: number;
  /** How long ago the last beat was asked for that the database has taken, in milliseconds. */
  readonly beatAgeMs: number;
  /** For how long nobody else can have begun; 0: somebody may have, and nothing is sent. */
  readonly validForMs: number;
  /** Why the last beat was not taken, in words; `null`: it was. */
  readonly failure: string | null;
}

/**
 * A standby of a database, as its primary sees it.
 *
 * @category Status
 */
export interface StandbyStats {
  /** Its `application_name`. */
  readonly name: string;
  /** `"streaming"`; `"startup"` and `"catchup"` while it is behind. */
  readonly state: string;
  /**
   * Whether commits wait for it: `"sync"` and `"quorum"`: they do; `"potential"`: once one of
   * those is gone; `"async"`: they do not.
   */
  readonly sync: string;
  /** What it does not have on its disk yet, in bytes of the log. */
  readonly lagBytes: number;
  /** How long the last commits took to get there, in milliseconds; `null`: none lately. */
  readonly lagMs: number | null;
}

/**
 * How a database is copied to its standbys.
 *
 * @category Status
 */
export interface ReplicationStats {
  /**
   * - `"replicated"`: each commit waits for standbys, and enough of them are there
   * - `"blocked"`: each commit waits for standbys, and too few are there: nothing is stored
   * - `"alone"`: no commit waits for a standby
   * - `"unknown"`: the database has not answered lately, or may not say
   */
  readonly state: "replicated" | "blocked" | "alone" | "unknown";
  /** `synchronous_standby_names`: for whom commits wait; empty: for nobody. */
  readonly waitsFor: string;
  /** The standbys that are there; none where the database may not say. */
  readonly standbys: readonly StandbyStats[];
}

/**
 * What only a queue in a database has to say.
 *
 * @category Status
 */
export interface ClusterStats {
  /** Who may send; `null`: this process does not send. */
  readonly lease: LeaseStats | null;
  /** The database's standbys, as they were a second ago. */
  readonly replication: ReplicationStats;
  /** Why a commit means less than `durability` asks for; `null`: it does not. */
  readonly weakness: {
    /** Which setting it is. */
    readonly words: string;
    /** Whether nothing is stored for it; else it is only warned of. */
    readonly refused: boolean;
  } | null;
}
