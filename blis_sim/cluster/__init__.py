"""Many engine instances behind a gateway: admission, routing, disaggregation, autoscaling."""
