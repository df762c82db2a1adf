package testbed;

import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.function.Predicate;
import java.util.function.Supplier;
import org.elasticsearch.Build;
import org.elasticsearch.client.internal.node.NodeClient;
import org.elasticsearch.cluster.node.DiscoveryNodes;
import org.elasticsearch.cluster.service.ClusterService;
import org.elasticsearch.features.NodeFeature;
import org.elasticsearch.ingest.AbstractProcessor;
import org.elasticsearch.ingest.ConfigurationUtils;
import org.elasticsearch.ingest.IngestDocument;
import org.elasticsearch.ingest.Processor;
import org.elasticsearch.plugins.ActionPlugin;
import org.elasticsearch.plugins.IngestPlugin;
import org.elasticsearch.plugins.Plugin;
import org.elasticsearch.rest.BaseRestHandler;
import org.elasticsearch.rest.RestHandler;
import org.elasticsearch.rest.RestRequest;
import org.elasticsearch.rest.RestResponse;
import org.elasticsearch.rest.RestStatus;
import org.elasticsearch.xcontent.XContentBuilder;

/**
 * Fills two gaps of the published test distribution: the banner at {@code GET /}, and ingest
 * processors that make a bulk item fail or vanish. Everything else is the server's own.
 */
public final class Standins extends Plugin implements ActionPlugin, IngestPlugin {
    private ClusterService cluster;

    @Override
    public Collection<?> createComponents(PluginServices services) {
        cluster = services.clusterService();
        return List.of();
    }

    @Override
    public Collection<RestHandler> getRestHandlers(
            RestHandlersServices services,
            Supplier<DiscoveryNodes> nodes,
            Predicate<NodeFeature> features) {
        return List.of(new Banner());
    }

    @Override
    public Map<String, Processor.Factory> getProcessors(Processor.Parameters parameters) {
        Processor.Factory fail = (all, tag, text, config, project) ->
            new Fail(
                tag, text, ConfigurationUtils.readStringProperty("fail", tag, config, "message"));
        Processor.Factory drop = (all, tag, text, config, project) -> new Drop(tag, text);
        return Map.of("fail", fail, "drop", drop);
    }

    private static final class Fail extends AbstractProcessor {
        private final String message;

        Fail(String tag, String text, String message) {
            super(tag, text);
            this.message = message;
        }

        @Override
        public IngestDocument execute(IngestDocument document) {
            throw new IllegalStateException(message);
        }

        @Override
        public String getType() {
            return "fail";
        }
    }

    private static final class Drop extends AbstractProcessor {
        Drop(String tag, String text) {
            super(tag, text);
        }

        @Override
        public IngestDocument execute(IngestDocument document) {
            return null;
        }

        @Override
        public String getType() {
            return "drop";
        }
    }

    private final class Banner extends BaseRestHandler {
        @Override
        public String getName() {
            return "testbed_banner";
        }

        @Override
        public List<Route> routes() {
            return List.of(
                new Route(RestRequest.Method.GET, "/"), new Route(RestRequest.Method.HEAD, "/"));
        }

        @Override
        protected RestChannelConsumer prepareRequest(RestRequest request, NodeClient client) {
            return channel -> {
                XContentBuilder body = channel.newBuilder().startObject();
                body.field("name", cluster.getNodeName());
                body.field("cluster_name", cluster.getClusterName().value());
                body.startObject("version");
                body.field("number", Build.current().qualifiedVersion());
                body.field("build_flavor", Build.current().flavor());
                body.endObject();
                body.field("tagline", "You Know, for Search");
                channel.sendResponse(new RestResponse(RestStatus.OK, body.endObject()));
            };
        }
    }
}
