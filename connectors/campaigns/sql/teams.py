"""Teams in SQL: the standings of players become those of their teams, and prizes are split again."""

from connectors.campaigns.model.definition import Campaign
from connectors.campaigns.model.forms import Leaderboard, Teams
from connectors.campaigns.sql import prizes
from connectors.campaigns.sql.expressions import cents
from connectors.campaigns.sql.scores import has_pool
from connectors.campaigns.sql.steps import Events, Fact, Rule, Steps
from connectors.clickhouse.literals import quoted


def membership(campaign: Campaign, events: Events) -> list[Fact]:
    """The team of each person who is in one, if the campaign has teams."""
    teams = teams_of(campaign)
    if teams is None:
        return []
    if teams.players is not None:
        pairs = sorted((player, team) for team, players in teams.players.items() for player in players)
        listed = ", ".join(f"({quoted(player)}, {quoted(team)})" for player, team in pairs)
        text = (
            f"SELECT {events.person}, min(pair.2) AS team\nFROM\n(\n"
            f"    SELECT arrayJoin([{listed}]) AS pair, pair.1 AS player_id\n)\nGROUP BY person_id"
        )
    else:
        prefix = quoted(teams.tag_prefix or "")
        tag = f"arraySort(arrayFilter(x -> startsWith(x, {prefix}) AND x != {prefix}, newest_tags))[1]"
        text = (
            f"SELECT person_id, substringUTF8({tag}, lengthUTF8({prefix}) + 1) AS team\n"
            "FROM player\nWHERE team != ''"
        )
    return [Fact("member", text, [Rule("team = ''", "player: in no team")])]


def teams_of(campaign: Campaign) -> Teams | None:
    """The teams of a campaign."""
    return campaign.form.teams if isinstance(campaign.form, Leaderboard) else None


def steps(campaign: Campaign, teams: Teams, standing: str, totals: bool) -> Steps:
    """The steps from the standings of players, ``standing``, to the ranks of players by their teams."""
    more = ", member_standing.rule AS rule, member_standing.falls AS falls" if totals else ""
    more += ", team_ranked.pool AS pool" if has_pool(campaign) else ""
    members = "greatest(team_ranked.members, 1)"
    return [
        ("own_standing", standing),
        ("member_standing", _with_place(teams)),
        ("standing", _team_standing(campaign, teams)),
        *prizes.steps(campaign, "team_ranked"),
        (
            "ranked",
            f"""
SELECT
    team_ranked.rank AS rank,
    member_standing.person_id AS person_id,
    member_standing.score AS score,
    member_standing.reached_at AS reached_at,
    member_standing.entries AS entries,
    member_standing.step AS step,
    {cents(f"team_ranked.prize / {members}")} AS prize,
    {cents(f"team_ranked.unpaid / {members}")} AS unpaid,
    team_ranked.items AS items,
    team_ranked.items_cost AS items_cost,
    team,
    team_ranked.score AS team_score{more}
FROM member_standing
LEFT JOIN team_ranked USING (team)""",
        ),
    ]


def _with_place(teams: Teams) -> str:
    """The standings of players with their team, and their place in it if only the best count. Only the
    rows of what was left out have no team.
    """
    place = "row_number() OVER (PARTITION BY team ORDER BY score DESC, reached_at, person_id)"
    column = f", {place} AS place" if teams.best else ""
    return f"SELECT *{column}\nFROM own_standing\nLEFT JOIN member USING (person_id)"


def _team_standing(campaign: Campaign, teams: Teams) -> str:
    source = "member_standing"
    score, reached = f"sum({source}.score)", f"max({source}.reached_at)"
    if teams.best:
        best = f"place <= {teams.best}"
        score = f"toDecimal128(sumIf({source}.score, {best}) / {teams.best}, 18)"
        reached = f"maxIf({source}.reached_at, {best})"
    turnover = f",\n    sum({source}.turnover) AS turnover" if has_pool(campaign) else ""
    return f"""
SELECT
    team,
    team AS person_id,
    {score} AS score,
    {reached} AS reached_at,
    reached_at AS paid_at,
    count() AS members{turnover}
FROM {source}
WHERE team != ''
GROUP BY team"""
