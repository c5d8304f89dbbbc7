//! Cycles in a graph of modules.

use std::collections::{BTreeMap, BTreeSet};

/// A graph: from each module to those that it uses.
pub type Graph<'a> = BTreeMap<&'a str, BTreeSet<&'a str>>;

/// For every module that reaches itself, a shortest way back, its first module repeated at the end.
/// Each set of modules is returned once.
pub fn cycles<'a>(graph: &Graph<'a>) -> Vec<Vec<&'a str>> {
    let mut found = Vec::new();
    let mut seen = BTreeSet::new();
    for start in graph.keys() {
        if let Some(cycle) = shortest_cycle(graph, start)
            && seen.insert(cycle.iter().copied().collect::<BTreeSet<_>>())
        {
            found.push(cycle);
        }
    }
    found
}

/// Breadth first.
fn shortest_cycle<'a>(graph: &Graph<'a>, start: &'a str) -> Option<Vec<&'a str>> {
    let mut visited = BTreeSet::new();
    let mut ways = std::collections::VecDeque::from([vec![start]]);
    while let Some(way) = ways.pop_front() {
        let last = *way.last()?;
        for next in graph.get(last).into_iter().flatten().copied() {
            let longer = [&way[..], &[next]].concat();
            if next == start {
                return Some(longer);
            }
            if visited.insert(next) {
                ways.push_back(longer);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(edges: &[(&'static str, &'static str)]) -> Graph<'static> {
        let mut graph = Graph::new();
        for (user, used) in edges {
            graph.entry(user).or_default().insert(used);
        }
        graph
    }

    #[test]
    fn finds_cycles_of_any_length_once() {
        assert_eq!(cycles(&graph(&[("a", "b"), ("a", "c"), ("b", "c")])), Vec::<Vec<&str>>::new());
        assert_eq!(cycles(&graph(&[("a", "b"), ("b", "a")])), [vec!["a", "b", "a"]]);
        assert_eq!(cycles(&graph(&[("z", "a"), ("a", "b"), ("b", "c"), ("c", "a")])), [vec!["a", "b", "c", "a"]]);
    }
}
