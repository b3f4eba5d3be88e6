/**
 * The three machines together, and disks that a cluster can start from.
 *
 * @module
 */

import { run } from "../lab/run.ts";
import { cutPower, DATABASE_PORT, DatabaseMachine } from "./database_machine.ts";
import { addressOf, ClusterNetwork, type DatabaseHost, DATABASES } from "./network.ts";
import { Watcher } from "./watcher.ts";

/** On a busy machine. */
const READY_DEADLINE_MS = 180_000;
const QUEUE = "outbox";
/**
 * What the judge looks into: who had the lease, and who removed what. The address is that of
 * the connection, and nothing that a sender says of itself.
 */
const AUDIT = `
CREATE SCHEMA audit;
CREATE TABLE audit.tenure (epoch bigint, address inet);
CREATE TABLE audit.removal (epoch bigint, address inet);
CREATE FUNCTION audit.note() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
  IF NEW.epoch <> OLD.epoch THEN
    INSERT INTO audit.tenure VALUES (NEW.epoch, inet_client_addr());
  END IF;
  IF NEW.removed_through <> OLD.removed_through THEN
    INSERT INTO audit.removal VALUES (NEW.epoch, inet_client_addr());
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER note AFTER UPDATE ON sendq.queue FOR EACH ROW EXECUTE FUNCTION audit.note();
CREATE USER producer;
GRANT sendq_producer TO producer;
CREATE USER sender;
GRANT sendq_sender TO sender;
`;

/** The queue's address for a user. */
export function queueUrl(user: string): string {
  const hosts = DATABASES.map((host) => `${addressOf(host)}:${DATABASE_PORT}`).join(",");
  return `postgres://${user}@${hosts}/postgres/${QUEUE}`;
}

/** A running cluster. */
export class DatabaseCluster {
  readonly #machines: ReadonlyMap<DatabaseHost, DatabaseMachine>;

  private constructor(machines: ReadonlyMap<DatabaseHost, DatabaseMachine>) {
    this.#machines = machines;
  }

  /**
   * Makes disks with a cluster that has a queue, as a power cut leaves them.
   *
   * @param directory Where they will lie; it exists.
   */
  static async makeDisks(directory: string): Promise<void> {
    await using network = await ClusterNetwork.create();
    const cluster = await DatabaseCluster.#at(network, directory);
    for (const machine of cluster.machines) await machine.newDisk();
    await using watcher = new Watcher(network);
    await cluster.#boot(watcher);
    await watcher.setUp(queueUrl("postgres"));
    await watcher.sql(AUDIT);
    // What `initdb` writes may be synced half a minute later.
    for (const machine of cluster.machines) await machine.start("sync");
    await cluster.cutPower();
  }

  /** Starts a cluster from disks that {@linkcode DatabaseCluster.makeDisks} has made. */
  static async start(
    network: ClusterNetwork,
    watcher: Watcher,
    directory: string,
    disks: string,
  ): Promise<DatabaseCluster> {
    const cluster = await DatabaseCluster.#at(network, directory);
    for (const { host, image } of cluster.machines) {
      await run("cp", ["--sparse=always", `${disks}/${host}/image`, image]);
    }
    await cluster.#boot(watcher);
    return cluster;
  }

  static async #at(
    network: ClusterNetwork,
    directory: string,
  ): Promise<DatabaseCluster> {
    // Nobody's programs have to find their files.
    await Deno.chmod(directory, 0o755);
    const machines = new Map<DatabaseHost, DatabaseMachine>();
    for (const host of DATABASES) {
      const own = `${directory}/${host}`;
      await Deno.mkdir(own);
      await Deno.chown(own, 65534, 65534);
      const machine = new DatabaseMachine(network, host, own);
      await machine.configure();
      machines.set(host, machine);
    }
    return new DatabaseCluster(machines);
  }

  /** All of them. */
  get machines(): readonly DatabaseMachine[] {
    return [...this.#machines.values()];
  }

  /** One of them. */
  machine(host: DatabaseHost): DatabaseMachine {
    const machine = this.#machines.get(host);
    if (machine === undefined) throw new RangeError(`there is no machine ${host}`);
    return machine;
  }

  /** The power of all of them fails at the same moment. */
  async cutPower(): Promise<void> {
    await cutPower(this.machines);
  }

  async #boot(watcher: Watcher): Promise<void> {
    await Promise.all(this.machines.map((machine) => machine.boot()));
    await watcher.untilReady(DATABASES.length - 1, READY_DEADLINE_MS);
  }
}
