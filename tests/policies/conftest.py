"""What publishing works on: a repository, a Triton that serves it, a policy and its good report."""

from types import SimpleNamespace

import pytest

from publish_fakes import FakeTriton, write_next_revision, write_repository
from report_fakes import BASE_DIGEST, ENCODER_DIGEST, fake_report
from unsee.policies import publish
from unsee.policies.composed_policy import ComposedPolicy
from unsee.triton.server import Server


@pytest.fixture
def repository(tmp_path):
    """Policies `base` with one revision, `family` with two and `studio` with one."""
    return write_repository(tmp_path / "repository", family=2, studio=1)


@pytest.fixture
def triton(repository):
    fake = FakeTriton(repository)
    yield fake
    fake.stop()


@pytest.fixture
def files(tmp_path, repository):
    """A policy file, its good report, and an exporter whose next graph is `files.graph`."""
    (tmp_path / "blimbo").mkdir()
    policy_file = tmp_path / "kids.yaml"
    policy_file.write_text(
        "name: kids\nunsee:\n  - {concept: Blimbo, category: character, delta: blimbo}\n"
    )
    report = tmp_path / "report" / "report.json"
    report.parent.mkdir()
    report.write_text(fake_report().model_dump_json())
    files = SimpleNamespace(
        policy=policy_file,
        repository=repository,
        base=tmp_path / "base",
        report=report,
        graph="good",
        composed=0,
        written=[],
    )

    def compose(policy, base_path, repository_dir, say):
        files.composed += 1
        base = SimpleNamespace(digest=lambda: BASE_DIGEST)
        return ComposedPolicy(base, [], None, ENCODER_DIGEST)

    def export(policy, composed, repository_dir, say):
        files.written.append(write_next_revision(repository_dir, policy.name, files.graph))
        return files.written[-1]

    files.compose, files.export = compose, export
    return files


@pytest.fixture
def publish_kids(files, triton):
    """`publish` of the policy `kids`, which the repository does not know yet."""

    def run(url=triton.url, **options):
        options = {"report": files.report} | options
        wanted = publish.Publication(files.policy, files.base, files.repository, **options)
        return publish.publish(wanted, Server(url), compose=files.compose, export=files.export)

    return run
