"""Drawings of networks: boxes apart, lines from left to right and around boxes, legible however many instances there are."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, pairwise
from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as some

from cpc.client.drawing import dot, png, svg
from cpc.client.drawing.chart import MANY, PORTS, Chart, chart
from cpc.client.drawing.layers import backward, crossings, layers, ordered
from cpc.client.drawing.layout import Layout, Place, apart, lay_out
from cpc.core.network_views import InstanceView, LinkView, NetworkView
from tests.helpers import sample_views as sample


def link(source: str, target: str) -> LinkView:
    return LinkView(source=source, target=target)


def network(*links: LinkView, names: str = "", path: str = "", instances: tuple[InstanceView, ...] = ()) -> NetworkView:
    """Instances by the letters of their names, and connections."""
    return NetworkView(path=path, instances=instances or tuple(sample.instance(name) for name in names), links=links)


@some.composite
def networks(draw: some.DrawFn) -> NetworkView:
    """Any connections among up to nine instances, to oneself too, with long and odd names."""
    letter = some.text(alphabet="abcdefghij_", min_size=1, max_size=50)
    names = draw(some.lists(letter, unique=True, max_size=9))
    states = ("active", "held", "warning", "error", "odd")
    instances = tuple(
        sample.instance(name, draw(some.sampled_from(("f", "module::a_function"))), draw(some.sampled_from(states)))
        for name in names
    )
    ports = some.sampled_from(("x", "y.z[3]", "a_long_name_of_an_output"))
    end = some.tuples(some.sampled_from(names), ports) if names else some.nothing()
    pairs = draw(some.lists(some.tuples(end, end), max_size=20)) if names else []
    return NetworkView(
        path="",
        instances=instances,
        links=tuple(link(f"{a}:out.{x}", f"{b}:in.{y}") for (a, x), (b, y) in pairs),
    )


def overlap(one: Place, other: Place) -> bool:
    return (
        one.x < other.x + other.width and other.x < one.x + one.width
        and one.y < other.y + other.height and other.y < one.y + one.height
    )  # fmt: skip


def straight_parts(layout: Layout) -> Iterator[tuple[tuple[float, float], tuple[float, float]]]:
    """Parts of lines that pass beside boxes; the curves are between the layers, where there are none."""
    for route in layout.routes:
        for at, part in enumerate(pairwise(route.points)):
            if route.back or at % 2 == 0:
                yield part


def cuts(place: Place, begin: tuple[float, float], end: tuple[float, float]) -> bool:
    """Whether a horizontal or vertical part goes through the inside of a box."""
    (left, right), (top, bottom) = sorted((begin[0], end[0])), sorted((begin[1], end[1]))
    inside = 0.01
    return (
        left < place.x + place.width - inside and right > place.x + inside
        and top < place.y + place.height - inside and bottom > place.y + inside
    )  # fmt: skip


@given(networks())
def test_no_box_covers_another_and_all_are_on_the_paper(found: NetworkView) -> None:
    layout = lay_out(chart(found, "net"))
    assert not [pair for pair in combinations(layout.places, 2) if overlap(*pair)]
    for place in layout.places:
        assert 0 <= place.x <= place.x + place.width <= layout.width
        assert 0 <= place.y <= place.y + place.height <= layout.height
    assert all(0 <= x <= layout.width and 0 <= y <= layout.height for route in layout.routes for x, y in route.points)


@given(networks())
def test_lines_lead_from_port_to_port_to_the_right_or_back_below(found: NetworkView) -> None:
    layout = lay_out(chart(found, "net"))
    for route in layout.routes:
        source, target = layout.places[route.line.source], layout.places[route.line.target]
        assert route.points[0] == (source.x + source.width, source.outputs[route.line.output])
        assert route.points[-1] == (target.x, target.inputs[route.line.input])
        if route.back:
            assert max(y for _, y in route.points) > max(place.y + place.height for place in (source, target))
        else:
            across = [x for x, _ in route.points]
            assert across == sorted(across)
            assert source.x + source.width < target.x


@given(networks())
def test_no_line_goes_through_a_box(found: NetworkView) -> None:
    layout = lay_out(chart(found, "net"))
    cut = [(place, part) for part in straight_parts(layout) for place in layout.places if cuts(place, *part)]
    assert not cut
    # Curves stay between the layers. Boxes without lines are below all that.
    connected = [layout.places[number] for route in layout.routes for number in (route.line.source, route.line.target)]
    for route in layout.routes:
        curves = [] if route.back else list(pairwise(route.points))[1::2]
        for (left, _), (right, _) in curves:
            assert not [one for one in connected if one.x < right - 0.01 and one.x + one.width > left + 0.01]


@given(networks())
def test_the_same_network_gives_the_same_picture(found: NetworkView) -> None:
    assert svg.render(chart(found, "net"), lay_out(chart(found, "net"))) == svg.render(
        chart(found, "net"), lay_out(chart(found, "net"))
    )


@given(networks())
def test_an_svg_is_xml_with_every_name(found: NetworkView) -> None:
    drawn = chart(found, "net")
    text = svg.render(drawn, lay_out(drawn))
    words = "\n".join(ElementTree.fromstring(text).itertext())
    assert all(box.title in words for box in drawn.boxes)


# --- what is drawn ---


def ends(drawn: Chart) -> set[tuple[str, str, str, str, int]]:
    """The lines by the titles of their boxes."""
    return {
        (drawn.boxes[line.source].title, line.output, drawn.boxes[line.target].title, line.input, line.count)
        for line in drawn.lines
    }


def test_elements_of_an_array_share_a_port() -> None:
    links = [link(f"a:out.x[{at}]", f"b:in.y[{at}].z") for at in range(1000)]
    assert ends(chart(network(*links, names="ab"), "net")) == {("a", "x[]", "b", "y[].z", 1000)}


def test_more_ports_than_are_legible_are_one() -> None:
    links = [link(f"a:out.x{at}", "b:in.y") for at in range(100)]
    drawn = chart(network(*links, names="ab"), "net")
    assert len(drawn.boxes[0].outputs) == PORTS
    assert sum(line.count for line in drawn.lines) == 100


def test_a_network_within_an_instance_has_its_owners_values_at_its_borders() -> None:
    links = (
        link("run:twice:in.ys", "run:twice:first.in.ys"), link("run:twice:first.out.r", "run:twice:out.second"),
        link("run:twice:sub_out.n", "run:twice:first:in.n"),
    )  # fmt: skip
    drawn = chart(network(*links, names=("first",), path="run:twice"), "net")  # type: ignore[arg-type]
    assert ends(drawn) == {
        ("in", "ys", "first", "ys", 1), ("first", "r", "out", "second", 1), ("sub_out", "n", "first", "n", 1),
    }  # fmt: skip
    assert [box.border for box in drawn.boxes] == [False, True, True, True]


def test_whole_trees_are_connected_by_their_names() -> None:
    assert ends(chart(network(link("a:out", "b:in.all"), names="ab"), "net")) == {("a", "out", "b", "all", 1)}


def test_large_networks_have_a_box_for_each_function() -> None:
    states = ("active", "error")
    many = tuple(
        sample.instance(f"i{at}", f"float::{'add' if at % 2 else 'mul'}", states[at == 7]) for at in range(MANY + 1)
    )
    links = tuple(link(f"i{at}:out.c", f"i{at + 1}:in.a") for at in range(MANY))
    drawn = chart(network(*links, instances=many), "net")
    assert drawn.by_function
    assert {(box.title, box.subtitle) for box in drawn.boxes} == {
        ("float::mul", "151 instances"),
        ("float::add", "150 instances, 1 error"),
    }
    assert {line.count for line in drawn.lines} == {150}
    assert not chart(network(*links, instances=many), "net", by_function=False).by_function


def test_a_picture_of_a_hundred_thousand_instances_is_small() -> None:
    many = tuple(sample.instance(f"i{at}") for at in range(100_000))
    links = tuple(link(f"i{at}:out.c", f"i{at + 1}:in.a") for at in range(99_999))
    drawn = chart(network(*links, instances=many), "net")
    assert len(svg.render(drawn, lay_out(drawn))) < 10_000


def test_instances_without_connections_stand_in_rows() -> None:
    layout = lay_out(chart(network(names="abcdefghijklmnopqrstuvwxyz"), "net"))
    assert len({place.y for place in layout.places}) > 2
    assert layout.width < 4 * layout.height


def test_an_empty_network_is_an_empty_picture() -> None:
    drawn = chart(network(), "net")
    assert svg.render(drawn, lay_out(drawn)).startswith("<svg ")
    assert png.render(drawn, lay_out(drawn)).startswith(b"\x89PNG")
    assert dot.render(drawn).startswith('digraph "net"')


def test_names_cannot_leave_their_place_in_any_format() -> None:
    hostile = '"];}<script>\\\n\x1b'
    drawn = chart(network(instances=(sample.instance("a", hostile),)), hostile)
    assert "<script>" not in svg.render(drawn, lay_out(drawn))
    assert "\x1b" not in svg.render(drawn, lay_out(drawn)) + dot.render(drawn)
    assert '\\"];}<script>\\\\' in dot.render(drawn)


def test_the_states_are_seen_and_counted() -> None:
    instances = tuple(
        sample.instance(state, state=state) for state in ("active", "held", "warning", "error", "error2", "odd")
    )
    drawn = chart(network(instances=instances), "net")
    text = svg.render(drawn, lay_out(drawn))
    for words in ("1 active", "1 held", "1 warning", "1 error", "1 odd"):
        assert f">{words}<" in text
    assert text.count('fill="#f8c9c6"') == 2


def test_a_png_shows_what_the_svg_shows() -> None:
    import io

    from PIL import Image

    drawn = chart(
        network(link("a:out.c", "b:in.a"), instances=(sample.instance("a"), sample.instance("b", state="error"))), "net"
    )
    layout = lay_out(drawn)
    image = Image.open(io.BytesIO(png.render(drawn, layout)))
    assert image.size[0] == round(layout.width * png.SCALE)
    for place, colour in zip(layout.places, ((0xDC, 0xF3, 0xE4), (0xF8, 0xC9, 0xC6)), strict=True):
        corner = (int((place.x + 6) * png.SCALE), int((place.y + place.height - 6) * png.SCALE))
        assert image.getpixel(corner) == colour


# --- the parts of the layout ---

GRAPHS = some.integers(1, 8).flatmap(
    lambda count: some.tuples(
        some.just(count),
        some.lists(some.tuples(some.integers(0, count - 1), some.integers(0, count - 1)), max_size=20),
    )
)


@given(GRAPHS)
def test_without_the_edges_that_go_back_there_is_no_cycle_and_layers_ascend(
    graph: tuple[int, list[tuple[int, int]]],
) -> None:
    count, edges = graph
    back = backward(count, edges)
    forth = [edge for edge, returns in zip(edges, back, strict=True) if not returns]
    layer = layers(count, forth)
    assert all(layer[source] < layer[target] for source, target in forth)


@given(
    some.integers(1, 8).flatmap(
        lambda n: some.lists(some.tuples(some.integers(0, n), some.integers(0, n)), max_size=30)
    )
)
def test_without_cycles_no_edge_goes_back(pairs: list[tuple[int, int]]) -> None:
    edges = [(min(pair), max(pair)) for pair in pairs if pair[0] != pair[1]]
    assert not any(backward(9, edges))


@given(some.lists(some.tuples(some.integers(0, 5), some.integers(6, 11)), max_size=20))
def test_sorting_never_makes_more_crossings_and_keeps_every_node(edges: list[tuple[int, int]]) -> None:
    rows = [list(range(6)), list(range(6, 12))]
    found = ordered(rows, edges)
    assert [sorted(row) for row in found] == rows
    assert crossings(found, edges) <= crossings(rows, edges)


def test_crossings_are_counted() -> None:
    assert crossings([[0, 1], [2, 3]], [(0, 3), (1, 2)]) == 1
    assert crossings([[0, 1], [2, 3]], [(0, 2), (1, 3), (0, 3)]) == 0


NUMBERS = some.floats(-1000, 1000)


@given(some.lists(some.tuples(NUMBERS, some.floats(0, 100), some.floats(0.1, 10)), max_size=8), some.data())
def test_what_is_pushed_apart_stays_as_near_as_possible(
    rows: list[tuple[float, float, float]], data: some.DataObject
) -> None:
    wishes, distances, weights = ([row[at] for row in rows] for at in range(3))
    found = apart(wishes, distances, weights)
    slack = 1e-6
    assert all(
        lower - upper >= distance - slack
        for (upper, lower), distance in zip(pairwise(found), distances[1:], strict=False)
    )

    def cost(places: list[float]) -> float:
        return sum(w * (at - wish) ** 2 for w, at, wish in zip(weights, places, wishes, strict=True))

    # Any other way that keeps the distances costs at least as much.
    place, other = 0.0, []
    for at, _ in enumerate(rows):
        place = data.draw(NUMBERS) if not at else place + distances[at] + data.draw(some.floats(0, 200))
        other.append(place)
    assert cost(found) <= cost(other) + slack * (1 + cost(other))
