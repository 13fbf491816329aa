"""Rounds of two clients with a served job."""

import numpy as np

SAMPLES = (10, 30)


def updates(model, seed):
    rng = np.random.default_rng(seed)
    return [
        {name: values + rng.standard_normal(values.shape).astype(np.float32) for name, values in model.items()}
        for _ in SAMPLES
    ]


def weighted_mean(pushed):
    return {name: np.average([np.float64(p[name]) for p in pushed], axis=0, weights=SAMPLES) for name in pushed[0]}


def start(clients):
    return [client.start_round(samples) for client, samples in zip(clients, SAMPLES)]


def make_round(clients, seed=0):
    """One good round; returns what was pushed and both clients' replies."""
    model = {name: view.copy() for name, view in clients[0].get_model(None).weights.items()}
    pushed = updates(model, seed)
    tickets = start(clients)
    for client, ticket, weights, samples in zip(clients, tickets, pushed, SAMPLES):
        assert client.push(ticket, weights, samples, 0.5, {"steps": 2}).accepted
    return pushed, [client.get_model(ticket.iteration, wait=10) for client, ticket in zip(clients, tickets)]
