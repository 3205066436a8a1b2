"""Examples of every operation that the hub's OpenAPI v3 documents describe, right ones and wrong ones, made by schemathesis.
Each is answered, and never with a mistake of the hub's own (5xx); what is refused is told as a Status. Ends with another
code than 0 when one is not.

    examples.py EXAMPLES SEED [PART…]      so many of each kind for each operation; of documents with a PART in their path"""

import base64
import json
import os
import sys
import tempfile
import warnings

import hypothesis
import requests
import schemathesis
from hypothesis import HealthCheck, Phase
from schemathesis import GenerationMode

# What a pod or a service behind the hub does not answer is no mistake of the hub's, and is told as upstream tells it.
BEHIND = (502, 503, 504)
TIMEOUT = 30


def session():
    """Whoever the kubeconfig is of."""
    with open(os.environ["KUBECONFIG"], encoding="utf-8") as file:
        config = json.load(file)
    folder = tempfile.mkdtemp()

    def pem(name, text):
        path = os.path.join(folder, name)
        with open(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600), "wb") as file:
            file.write(base64.b64decode(text))
        return path

    cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
    out = requests.Session()
    # A CA that the environment names would be in the place of the hub's.
    out.trust_env = False
    out.verify = pem("ca", cluster["certificate-authority-data"])
    out.cert = (pem("cert", user["client-certificate-data"]), pem("key", user["client-key-data"]))
    return cluster["server"], out


def ends(case):
    """Nothing is watched or followed for long."""
    query = dict(case.query or {})
    for name in ("watch", "follow"):
        query.pop(name, None)
    if "/watch/" in case.path:
        query["timeoutSeconds"] = 1
    case.query = query
    return case


def complaint(operation, response):
    """What is wrong with an answer."""
    told = f"{response.request.method} {response.request.url}"
    connects = operation.definition.raw.get("x-kubernetes-action") == "connect"
    if 500 <= response.status_code and not (connects and response.status_code in BEHIND):
        return f"{told} is answered with {response.status_code}: {response.text[:500]}"
    is_json = "application/json" in response.headers.get("content-type", [])
    if 400 <= response.status_code and is_json and response.json().get("kind") != "Status":
        return f"{told} is refused without a Status: {response.text[:500]}"
    return None


class Run:
    """One run over some documents."""

    def __init__(self, server, session, examples, seed):
        self.server, self.session, self.examples, self.seed = server, session, examples, seed
        self.asked, self.codes, self.complaints = 0, {}, {}

    def document(self, path):
        text = self.session.get(self.server + path, timeout=TIMEOUT).json()
        schema = schemathesis.openapi.from_dict(text)
        for result in schema.get_all_operations():
            operation = result.ok()
            for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
                self.operation(operation, mode)

    def operation(self, operation, mode):
        try:
            strategy = operation.as_strategy(generation_mode=mode)
        except Exception as error:  # What it cannot make, such as wrong ones where anything is right, it says so.
            print(f"no examples: {operation.label}: {error!r:.200}")
            return

        @hypothesis.seed(self.seed)
        @hypothesis.settings(
            max_examples=self.examples,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @hypothesis.given(case=strategy)
        def play(case):
            self.one(operation, case)

        try:
            play()
        except hypothesis.errors.Unsatisfiable:
            pass

    def one(self, operation, case):
        case = ends(case)
        try:
            who = self.session
            response = case.call(
                base_url=self.server, session=who, verify=who.verify, cert=who.cert, timeout=TIMEOUT
            )
        except (requests.exceptions.InvalidHeader, UnicodeError):
            return
        except requests.exceptions.RequestException as error:
            self.complaints.setdefault(operation.label, f"{operation.label} is not answered: {error!r:.500}")
            return
        self.asked += 1
        self.codes[response.status_code] = self.codes.get(response.status_code, 0) + 1
        if told := complaint(operation, response):
            body = response.request.body or b""
            self.complaints.setdefault(operation.label, f"{told}\n    sent: {body[:1000]!r}")


def main():
    warnings.simplefilter("ignore")
    examples, seed, parts = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
    server, who = session()
    index = who.get(server + "/openapi/v3", timeout=TIMEOUT).json()["paths"]
    run = Run(server, who, examples, seed)
    for name in sorted(index):
        if not parts or any(part in name for part in parts):
            before = run.asked
            run.document(index[name]["serverRelativeURL"])
            print(f"{name}: {run.asked - before}", flush=True)
    print(f"{run.asked} requests, answered with {dict(sorted(run.codes.items()))}")
    for told in run.complaints.values():
        print(told)
    if run.complaints:
        sys.exit(f"{len(run.complaints)} operations have a mistake")
    print("every example is answered")


main()
