/**
 * A machine of the cluster: etcd, Patroni and PostgreSQL on a disk of their own, which is an
 * image, so that a power cut can be what it is: all that a program has written and not synced
 * is gone. Namespaces of processes, mounts and network make it a machine that dies as a whole.
 *
 * @module
 */

import { LineChild } from "../lab/child.ts";
import { run } from "../lab/run.ts";
import { addressOf, type ClusterNetwork, type DatabaseHost, DATABASES } from "./network.ts";

/** PostgreSQL's port on each machine. */
export const DATABASE_PORT = 5432;
/** The port of Patroni's REST API. */
export const PATRONI_PORT = 8008;
/** What Patroni is told: how soon it notices that a primary is gone, in seconds. */
export const PATRONI_TIMES = { ttl: 5, loop_wait: 1, retry_timeout: 2 } as const;

const BIN = "/usr/lib/postgresql/15/bin";
/** Nobody: PostgreSQL does not run as root. */
const UID = 65534;
const DISK_MEBIBYTES = 768;
/** What runs a machine's programs; its end is that of the machine. */
const INIT = `
exec 2>>"$3/init.log"
mount -o loop,noatime "$1" "$2" || exit 1
as="setpriv --reuid=${UID} --regid=${UID} --clear-groups env -i PATH=$PATH HOME=$2 LC_ALL=C"
echo up
while read -r program; do
  case "$program" in
    etcd) $as etcd --config-file "$3/etcd.json" >>"$3/etcd.log" 2>&1 </dev/null & ;;
    patroni) $as patroni "$3/patroni.json" >>"$3/patroni.log" 2>&1 </dev/null & ;;
    sync) sync -f "$2" ;;
  esac
  echo "$program"
done
`;
/** What is no part of the database on its machine. */
const OTHERS: readonly string[] = ["unshare", "bash", "etcd"];

/** One machine. */
export class DatabaseMachine {
  readonly host: DatabaseHost;
  /** Its disk. */
  readonly image: string;
  readonly #network: ClusterNetwork;
  readonly #directory: string;
  #init: LineChild | undefined;
  #isOn = true;

  /**
   * @param directory Where its image, its configuration and its logs lie; it exists.
   */
  constructor(network: ClusterNetwork, host: DatabaseHost, directory: string) {
    this.#network = network;
    this.host = host;
    this.#directory = directory;
    this.image = `${directory}/image`;
  }

  /** Whether it runs. */
  get isUp(): boolean {
    return this.#init !== undefined;
  }

  /** An empty disk in place of whatever there was. */
  async newDisk(): Promise<void> {
    await Deno.remove(this.image).catch(() => {});
    await run("truncate", ["-s", `${DISK_MEBIBYTES}M`, this.image]);
    await run("mkfs.ext4", ["-q", "-F", "-E", `root_owner=${UID}:${UID}`, this.image]);
  }

  /** Writes what etcd and Patroni are told. */
  async configure(): Promise<void> {
    await Deno.mkdir(this.#disk, { recursive: true });
    const write = async (name: string, value: unknown) => {
      await Deno.writeTextFile(`${this.#directory}/${name}.json`, JSON.stringify(value, null, 2));
    };
    await write("etcd", this.#etcd());
    await write("patroni", this.#patroni());
  }

  /** Starts the machine, and its programs. */
  async boot(programs: readonly ("etcd" | "patroni")[] = ["etcd", "patroni"]): Promise<void> {
    if (!this.#isOn) await this.#network.powerOn(this.host);
    this.#isOn = true;
    this.#init = new LineChild(this.#network.spawnerIn(this.host), "unshare", [
      ...["--pid", "--fork", "--kill-child", "--mount-proc", "--mount", "bash", "-c", INIT],
      ...["init", this.image, this.#disk, this.#directory],
    ]);
    await this.#init.hear();
    for (const program of programs) await this.start(program);
  }

  /** Starts one of its programs, or has all that was written go to its disk. */
  async start(program: "etcd" | "patroni" | "sync"): Promise<void> {
    await this.#init?.say(program);
    await this.#init?.hear();
  }

  /** It loses its power. */
  async powerOff(): Promise<void> {
    this.#isOn = false;
    await this.#network.powerOff(this.host);
    await this.#init?.[Symbol.asyncDispose]();
    this.#init = undefined;
  }

  /** Patroni and PostgreSQL are killed, all at a time; etcd lives. */
  async killDatabase(): Promise<void> {
    for (;;) {
      const pids = (await this.processes())
        .filter((pid) => !OTHERS.includes(nameOf(pid) ?? "bash"));
      if (pids.length === 0) return;
      for (const pid of pids) signal(pid, "SIGKILL");
    }
  }

  /** What was stopped goes on. */
  async thaw(): Promise<void> {
    for (const pid of await this.processes()) signal(pid, "SIGCONT");
  }

  /** All that runs on it. */
  processes(): Promise<number[]> {
    return this.#network.processesOn(this.host);
  }

  get #disk(): string {
    return `${this.#directory}/disk`;
  }

  #etcd(): unknown {
    const at = (host: DatabaseHost, port: number) => `http://${addressOf(host)}:${port}`;
    return {
      name: this.host,
      "data-dir": `${this.#disk}/etcd`,
      "listen-peer-urls": at(this.host, 2380),
      "initial-advertise-peer-urls": at(this.host, 2380),
      "listen-client-urls": at(this.host, 2379),
      "advertise-client-urls": at(this.host, 2379),
      "initial-cluster": DATABASES.map((host) => `${host}=${at(host, 2380)}`).join(","),
      "initial-cluster-state": "new",
      "enable-v2": true,
      // Else a machine that was cut off and comes back ends the leader's term, and Patroni, which
      // cannot ask for some seconds, the primary. From etcd 3.5 on this is the default.
      "pre-vote": true,
    };
  }

  #patroni(): unknown {
    const address = addressOf(this.host);
    const trust = (database: string) => `host ${database} all 192.0.2.0/24 trust`;
    return {
      scope: "packets",
      name: this.host,
      restapi: {
        listen: `${address}:${PATRONI_PORT}`,
        connect_address: `${address}:${PATRONI_PORT}`,
      },
      // Not `etcd3`: before 3.0.3 a Patroni that was stopped and goes on takes the leader's key
      // over the v3 API from whoever has it by then, and what that one acknowledged is lost.
      etcd: { hosts: DATABASES.map((host) => `${addressOf(host)}:2379`) },
      bootstrap: {
        dcs: {
          ...PATRONI_TIMES,
          synchronous_mode: true,
          synchronous_mode_strict: true,
          // A primary whose server has died is not waited for.
          primary_start_timeout: 0,
          postgresql: {
            use_pg_rewind: true,
            use_slots: true,
            parameters: {
              synchronous_commit: "on",
              max_connections: 80,
              max_wal_senders: 8,
              wal_sender_timeout: "3s",
              wal_receiver_timeout: "3s",
              // A standby that asks a new primary too early asks again after this; else 5 s.
              wal_retrieve_retry_interval: "500ms",
              shared_buffers: "32MB",
              max_wal_size: "128MB",
              min_wal_size: "32MB",
            },
          },
        },
        initdb: [{ encoding: "UTF8" }, { locale: "C" }, "data-checksums"],
      },
      postgresql: {
        listen: `${address}:${DATABASE_PORT}`,
        connect_address: `${address}:${DATABASE_PORT}`,
        data_dir: `${this.#disk}/postgres`,
        bin_dir: BIN,
        // Written at each start, so that no power cut leaves it empty.
        pg_hba: ["local all all trust", trust("all"), trust("replication")],
        pgpass: `${this.#disk}/pgpass`,
        authentication: {
          superuser: { username: "postgres" },
          replication: { username: "postgres" },
          rewind: { username: "postgres" },
        },
        parameters: { unix_socket_directories: this.#disk },
      },
    };
  }
}

/** Stops every process of several machines, as nearly at the same moment as can be. */
export async function freeze(machines: readonly DatabaseMachine[]): Promise<void> {
  // The second time for what was started before its parent was stopped.
  for (let round = 0; round < 2; round++) {
    const pids = await Promise.all(machines.map((machine) => machine.processes()));
    for (const pid of pids.flat()) signal(pid, "SIGSTOP");
  }
}

/**
 * The power of several machines fails at the same moment: they are stopped, and what was on
 * their disks then is on their disks when they start again.
 */
export async function cutPower(machines: readonly DatabaseMachine[]): Promise<void> {
  await freeze(machines);
  await Promise.all(machines.map(({ image }) => copyStill(image)));
  for (const machine of machines) await machine.powerOff();
  for (const { image } of machines) await Deno.rename(`${image}.copy`, image);
}

/** Copies an image while nothing is written to it: the kernel may be about to. */
async function copyStill(image: string): Promise<void> {
  for (let times = 0; times < 50; times++) {
    const before = await writesTo(image);
    await run("cp", ["--sparse=always", image, `${image}.copy`]);
    if (await writesTo(image) === before) return;
  }
  throw new Error(`${image} was written to all the time, although its machine is stopped`);
}

/** How many writes there were to the loop device of an image. */
async function writesTo(image: string): Promise<string> {
  const real = await Deno.realPath(image);
  for (const { name } of Deno.readDirSync("/sys/block")) {
    if (!name.startsWith("loop")) continue;
    try {
      const file = Deno.readTextFileSync(`/sys/block/${name}/loop/backing_file`).trim();
      // Its fields are in block/stat of the kernel's documentation: 5 and 9 are writes.
      const stat = Deno.readTextFileSync(`/sys/block/${name}/stat`).trim().split(/\s+/);
      if (file === real) return `${stat[4]} ${stat[8]}`;
    } catch (error) {
      // Not in use.
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
  }
  throw new Error(`no loop device has ${image}`);
}

function nameOf(pid: number): string | undefined {
  try {
    return Deno.readTextFileSync(`/proc/${pid}/comm`).trim();
  } catch {
    return undefined; // It has ended.
  }
}

function signal(pid: number, name: Deno.Signal): void {
  try {
    Deno.kill(pid, name);
  } catch {
    // It has ended.
  }
}

/** What the machines are made with: how each says its version, and who brings it. */
const PROGRAMS = [
  ["PostgreSQL", `${BIN}/postgres`, "postgresql-15"],
  ["Patroni", "patroni", "patroni"],
  ["etcd", "etcd", "etcd-server"],
] as const;

/** Which versions of it there are, in words; or what is missing. */
export async function versions(): Promise<
  { readonly words: string } | { readonly missing: string }
> {
  const found: string[] = [];
  const missing: string[] = [];
  for (const [name, program, debianPackage] of PROGRAMS) {
    try {
      const version = /\d+(\.\d+)+/.exec(await run(program, ["--version"]))?.[0];
      found.push(`${name} ${version ?? "of an unknown version"}`);
    } catch {
      missing.push(debianPackage);
    }
  }
  if (missing.length === 0) return { words: found.join(", ") };
  return {
    missing: `on Debian: apt-get install --no-install-recommends ${missing.join(" ")}`,
  };
}
